"""Rewrites PNG images: pixels alone, in five bits a channel.

A PNG (ISO/IEC 15948) has room in its text and private chunks, behind the
pixels and behind the end, in palettes, in colours of pixels that can't be seen, in
the choice of filters and of the packing, and above all in the low bits of the
pixels. The copy has grey or red, green and blue with eight bits of which the
upper five are the picture's and the lower three repeat them; it lies on white
where the picture was transparent, has no filters, and is packed one way.

What it may still carry is what its packed pixels are long.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insitu.gate.canonical.form import Canonical
from insitu.gate.contents import Contents, Data, NotReadableError, Place
from insitu.gate.effort import Effort
from insitu.gate.readers.png import MAGIC, Header, chunks, parse_header, read_pixels

_BITS = 5
_MOST_PIXELS = 16_000_000
_PALETTE = 3

Pixels = NDArray[np.uint8]


def is_png(data: Data) -> bool:
    return bytes(data[:8]) == MAGIC


def rewrite_png(data: bytes, effort: Effort) -> Canonical:
    """The canonical form of a PNG image.

    Raises:
        NotReadableError: it isn't one, or is damaged.
        OutOfEffortError: it is larger than the judgement's bounds.
    """
    pixels = _shown(*_parts(data, effort))
    coarse = pixels >> (8 - _BITS)
    pixels = (coarse << (8 - _BITS)) | (coarse >> (2 * _BITS - 8))
    if (pixels == pixels[..., :1]).all():
        pixels = pixels[..., :1]
    height, width, channels = pixels.shape
    rows = np.zeros((height, 1 + width * channels), dtype=np.uint8)  # each begins with its filter: none
    rows[:, 1:] = pixels.reshape(height, -1)
    packed = zlib.compress(rows.tobytes(), 9)
    header = b"".join(size.to_bytes(4, "big") for size in (width, height)) + bytes(
        [8, 0 if channels == 1 else 2, 0, 0, 0]
    )
    written = MAGIC + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")
    return Canonical(written, "png", 8 * (len(header) + len(packed)))


def _parts(data: bytes, effort: Effort) -> tuple[Header, NDArray[Any], Pixels | None, bytes]:
    """Header, samples, palette and transparency."""
    header, palette, clear = None, None, b""
    packed: list[memoryview] = []
    if not is_png(data):
        raise NotReadableError("not a PNG image")
    for chunk in chunks(data):
        effort.spend_member()
        if chunk.kind == b"IHDR":
            header = parse_header(chunk.data)
        elif chunk.kind == b"PLTE":
            palette = np.frombuffer(chunk.data, dtype=np.uint8, count=len(chunk.data) // 3 * 3).reshape(-1, 3)
        elif chunk.kind == b"tRNS":
            clear = bytes(chunk.data)
        elif chunk.kind == b"IDAT":
            packed.append(chunk.data)
    if header is None or header.width * header.height > _MOST_PIXELS:
        raise NotReadableError("a PNG image without a header, or with too many pixels")
    nowhere = Place("image", Contents(effort), 0, lambda _, __: None)
    return header, read_pixels(header, b"".join(packed), nowhere), palette, clear


def _shown(header: Header, samples: NDArray[Any], palette: Pixels | None, clear: bytes) -> Pixels:
    """Red, green and blue as somebody sees them on white paper."""
    if header.colour == _PALETTE:
        if palette is None or (samples.size and int(samples.max()) >= len(palette)):
            raise NotReadableError("a PNG image whose palette lacks a colour")
        opacity = np.full(len(palette), 255, dtype=np.uint8)
        known = np.frombuffer(clear, dtype=np.uint8)[: len(palette)]
        opacity[: len(known)] = known
        return _on_white(palette[samples[..., 0]], opacity[samples[..., 0]])
    eight = (samples >> 8 if header.depth == 16 else samples * (255 // (2**header.depth - 1))).astype(np.uint8)
    colours = eight[..., :1].repeat(3, axis=-1) if header.channels <= 2 else eight[..., :3]
    return _on_white(colours, eight[..., -1]) if header.channels in (2, 4) else colours


def _on_white(colours: Pixels, opacity: Pixels) -> Pixels:
    share = opacity[..., None].astype(np.uint32)
    return ((colours * share + 255 * (255 - share)) // 255).astype(np.uint8)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
