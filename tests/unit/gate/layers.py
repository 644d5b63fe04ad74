"""Writes containers as the tests need them, with the libraries that people use."""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib

import numpy as np
from PIL import Image, PngImagePlugin


def zipped(*members: bytes, comment: bytes = b"", before: bytes = b"") -> bytes:
    """A zip; `before` stands before its first member, and the directory knows nothing of it."""
    out = io.BytesIO()
    out.write(before)
    with zipfile.ZipFile(out, "a" if before else "w", zipfile.ZIP_DEFLATED) as archive:
        for number, data in enumerate(members):
            archive.writestr(f"part-{number}", data)
        archive.comment = comment
    return out.getvalue()


def tarred(data: bytes, name: str = "part", pax: dict[str, str] | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        member.pax_headers = pax or {}
        archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def array_file(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def picture(pixels: np.ndarray | None = None, chunk: bytes = b"", **texts: str) -> bytes:
    """A PNG; a text whose name begins with z is packed."""
    out = io.BytesIO()
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name, text, zip=name.startswith("z"))
    image = np.zeros((8, 8), dtype=np.uint8) if pixels is None else pixels
    Image.fromarray(image).save(out, "png", pnginfo=info)
    data = out.getvalue()
    if chunk:
        extra = len(chunk).to_bytes(4, "big") + b"teSt" + chunk
        extra += zlib.crc32(extra[4:]).to_bytes(4, "big")
        data = data[:-12] + extra + data[-12:]
    return data
