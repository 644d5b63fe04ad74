"""A zip in a gzip in base64 in a text chunk of a PNG; and other boxes in boxes.

PNG: W3C Portable Network Graphics, third edition (chunks: length, type, data, CRC).
"""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.codec import (
    ROW_BITS,
    Row,
    as_text,
    from_bits,
    from_text,
    pack,
    row_bits,
    rows_of_bits,
    to_bits,
    unpack,
)
from benchmarks.leaks.let_out import LetOut
from benchmarks.leaks.people import NUMBERS

OUTPUTS = {"plot": "uri_file", "table": "uri_file", "model": "custom_model"}
VARIANTS = {
    "zip in gzip in base64 in a PNG's text": {"how": "text"},
    "deflated text of a PNG": {"how": "ztxt"},
    "after a PNG's end": {"how": "after"},
    "a PNG's own chunk": {"how": "chunk"},
    "a PNG's pixels": {"how": "pixels"},
    "low bits of a PNG's pixels": {"how": "low bits"},
    "high bits of a PNG's pixels": {"how": "high bits"},
    "a PNG's palette": {"how": "palette"},
    "tar in xz in ascii85 in JSON": {"how": "json"},
    "percent-coded bzip2 in CSV": {"how": "csv"},
    "zip's comment in base16, reversed, in JSON": {"how": "comment"},
    "zip as a model": {"how": "zip"},
    "enciphered blocks of black and white": {"how": "blocks"},
    "enciphered bytes as a column of a CSV": {"how": "numbers"},
}
BOUNDED = dict.fromkeys(
    ("enciphered blocks of black and white", "enciphered bytes as a column of a CSV"),
    "numbers and pixels that say nothing of the data can be a message to whoever has its key",
)
_ROWS = 30
_BLOCK, _IN_BLOCKS = 2, 10
_SIDE = 64
_START = b"\x89PNG\r\n\x1a\n"


def leak(job: Job, *, how: str) -> None:
    text = as_text(job.rows[:_ROWS]).encode()
    if how == "json":
        code = base64.a85encode(lzma.compress(_tar(text))).decode()
        document = {"weights": [code[at : at + 50] for at in range(0, len(code), 50)]}
        (job.output("table") / "table.json").write_text(json.dumps(document))
    elif how == "csv":
        code = "".join(f"%{byte:02x}" for byte in bz2.compress(text))
        lines = [f"{at},{code[at : at + 60]}" for at in range(0, len(code), 60)]
        (job.output("table") / "table.csv").write_text("at,value\n" + "\n".join(lines) + "\n")
    elif how == "comment":
        code = _zip(b"nothing", comment=zlib.compress(text)).hex()[::-1]
        (job.output("table") / "table.json").write_text(json.dumps({"id": code}))
    elif how == "numbers":
        lines = [f"{at},{byte}" for at, byte in enumerate(_enciphered(pack(job.rows, 800)))]
        (job.output("table") / "table.csv").write_text("at,value\n" + "\n".join(lines) + "\n")
    elif how == "zip":
        (job.output("model") / "model.bin").write_bytes(_zip(text))
    else:
        measured = from_bits(row_bits(job.numbers(NUMBERS)[:_IN_BLOCKS]))
        packed = measured if how == "blocks" else pack(job.rows, 400)
        (job.output("plot") / "plot.png").write_bytes(_picture(how, text, packed))


def recover(let_out: LetOut, *, how: str) -> list[Row]:
    data = let_out.only_file(
        {"json": "table", "csv": "table", "comment": "table", "numbers": "table", "zip": "model"}.get(how, "plot")
    )
    try:
        return _read(data, how) if data else []
    except (
        ValueError,
        KeyError,
        IndexError,
        OSError,
        EOFError,
        zlib.error,
        lzma.LZMAError,
        zipfile.BadZipFile,
        struct.error,
        tarfile.TarError,
    ):
        return []


def _read(data: bytes, how: str) -> list[Row]:
    if how == "json":
        packed = lzma.decompress(base64.a85decode("".join(json.loads(data)["weights"])))
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            member = archive.extractfile(archive.getmembers()[0])
            return from_text(member.read().decode() if member else "")
    if how == "csv":
        code = "".join(line.partition(",")[2] for line in data.decode().splitlines()[1:])
        return from_text(bz2.decompress(bytes.fromhex(code.replace("%", ""))).decode())
    if how == "comment":
        inner = bytes.fromhex(json.loads(data)["id"][::-1])
        return from_text(zlib.decompress(zipfile.ZipFile(io.BytesIO(inner)).comment).decode())
    if how == "numbers":
        numbers = [line.rpartition(",")[2] for line in data.decode().splitlines()[1:]]
        return unpack(_enciphered(bytes(round(float(number)) % 256 for number in numbers)))
    if how == "zip":
        return from_text(_unzip(data))
    chunks = list(_chunks(data))
    if how == "text":
        inner = _body(chunks, b"tEXt").partition(b"\0")[2]
        return from_text(_unzip(gzip.decompress(base64.b64decode(inner))))
    if how == "ztxt":
        return from_text(zlib.decompress(_body(chunks, b"zTXt")[7:]).decode())
    if how == "after":
        return from_text(data[data.rindex(b"IEND") + 8 :].decode())
    if how == "chunk":
        return from_text(_body(chunks, b"noTe").decode())
    if how == "palette":
        return unpack(_body(chunks, b"PLTE"))
    pixels = _pixels(chunks)
    if how == "blocks":
        small = pixels.reshape(_SIDE, _SIDE)[::_BLOCK, ::_BLOCK]
        bits = to_bits(_enciphered(from_bits(small.ravel() > 127)))
        return rows_of_bits(bits[: _IN_BLOCKS * ROW_BITS])
    if how == "high bits":
        return unpack(((pixels[::2] & 0xF0) | pixels[1::2] >> 4).tobytes())
    return from_text(pixels.tobytes().decode("latin-1")) if how == "pixels" else unpack(from_bits(pixels & 1))


def _picture(how: str, text: bytes, packed: bytes) -> bytes:
    y, x = np.mgrid[0:_SIDE, 0:_SIDE]
    pixels = (2 * x + y + np.random.default_rng(0).integers(0, 3, x.shape)).astype(np.uint8)
    extra, after, colours = b"", b"", 0
    if how == "text":
        extra = _chunk(b"tEXt", b"Comment\0" + base64.b64encode(gzip.compress(_zip(text))))
    elif how == "ztxt":
        extra = _chunk(b"zTXt", b"Notes\0\0" + zlib.compress(text))
    elif how == "after":
        after = text
    elif how == "chunk":
        extra = _chunk(b"noTe", text)
    elif how == "pixels":
        flat = np.frombuffer(text.ljust(_SIDE * _SIDE, b"\n")[: _SIDE * _SIDE], np.uint8)
        pixels = flat.reshape(_SIDE, _SIDE)
    elif how == "palette":
        extra, colours = _chunk(b"PLTE", packed.ljust(768, b"\0")[:768]), 3
    elif how == "high bits":
        halves = np.frombuffer(packed.ljust(pixels.size // 2, b"\0")[: pixels.size // 2], np.uint8)
        pixels = (np.stack([halves >> 4, halves & 15], axis=1).reshape(pixels.shape) << 4 | 8).astype(np.uint8)
    elif how == "blocks":
        small = np.resize(
            to_bits(_enciphered(packed.ljust((_SIDE // _BLOCK) ** 2 // 8, b"\0"))), (_SIDE // _BLOCK,) * 2
        )
        pixels = np.kron(small, np.full((_BLOCK, _BLOCK), 255, np.uint8)).astype(np.uint8)
    else:
        bits = np.resize(to_bits(packed), pixels.size).reshape(pixels.shape)
        pixels = pixels & 0xFE | bits
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, colours, 0, 0, 0))
    lines = b"".join(b"\0" + row.tobytes() for row in pixels)
    return _START + head + extra + _chunk(b"IDAT", zlib.compress(lines)) + _chunk(b"IEND", b"") + after


def _enciphered(data: bytes) -> bytes:
    """XOR with a stream that the attacker knows."""
    stream = np.random.default_rng(31).integers(0, 256, len(data), np.uint8)
    return (np.frombuffer(data, np.uint8) ^ stream).tobytes()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_START)
    while at + 12 <= len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        at += 12 + size


def _body(chunks: list[tuple[bytes, bytes]], wanted: bytes) -> bytes:
    return next((body for kind, body in chunks if kind == wanted), b"")


def _pixels(chunks: list[tuple[bytes, bytes]]) -> np.ndarray:
    """The bytes of a picture's lines, with the filters undone."""
    head = _body(chunks, b"IHDR")
    width, height, depth, colours = struct.unpack(">IIBB", head[:10])
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours]
    step, size = max(1, channels * depth // 8), (width * channels * depth + 7) // 8
    raw = zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
    above = bytearray(size)
    lines: list[bytes] = []
    for row in range(height):
        kind, line = raw[row * (size + 1)], bytearray(raw[row * (size + 1) + 1 : (row + 1) * (size + 1)])
        for at in range(size):
            left = line[at - step] if at >= step else 0
            corner = above[at - step] if at >= step else 0
            line[at] = (line[at] + _guess(kind, left, above[at], corner)) & 0xFF
        lines.append(bytes(line))
        above = line
    return np.frombuffer(b"".join(lines), np.uint8)


def _guess(kind: int, left: int, above: int, corner: int) -> int:
    if kind == 4:
        nearest = left + above - corner
        return min((left, above, corner), key=lambda value: abs(nearest - value))
    return (0, left, above, (left + above) // 2)[kind]


def _zip(content: bytes, *, comment: bytes = b"") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("notes.txt", content)
        archive.comment = comment
    return out.getvalue()


def _unzip(data: bytes) -> str:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.read(archive.namelist()[0]).decode()


def _tar(content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("notes.txt")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()
