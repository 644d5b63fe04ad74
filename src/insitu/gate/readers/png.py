"""Reads PNG images: pixels as numbers, text chunks as text, everything else as bytes.

Format: ISO/IEC 15948 (PNG, second edition), and the chunks of its extensions.
Decoders ignore chunks that they don't know, data behind the pixels and data
behind the end; all of that is read here.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from insitu.gate.contents import Data, NotReadableError, Place
from insitu.gate.effort import Effort
from insitu.gate.readers.compressed import pump

MAGIC = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_MAX_SIDE = 1 << 24
# Adam7: first column, first row, steps across and down of the seven passes.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Header:
    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool

    @property
    def channels(self) -> int:
        return _CHANNELS[self.colour]

    def row_bytes(self, width: int) -> int:
        return -(-width * self.channels * self.depth // 8)


@dataclass(frozen=True)
class Chunk:
    kind: bytes
    data: memoryview
    end: int


def read_png(data: Data, place: Place) -> None:
    """Take pixels, palette, texts and all other chunks.

    Raises:
        NotReadableError: the image is damaged.
    """
    place.add_kind("png")
    header: Header | None = None
    pixels: list[memoryview] = []
    end = len(MAGIC)
    for number, chunk in enumerate(chunks(data), start=1):
        place.effort.spend_member()
        end = chunk.end
        if chunk.kind == b"IHDR":
            header = parse_header(chunk.data)
        elif chunk.kind == b"IDAT":
            pixels.append(chunk.data)
        elif chunk.kind in _READERS:
            _READERS[chunk.kind](chunk.data, place.at(f"chunk {number}"))
        elif chunk.kind != b"IEND" or chunk.data:
            place.read(chunk.data, f"chunk {number}", guessed=True)
    place.read(memoryview(data)[end:], "behind the image", guessed=True)
    if header is None:
        raise NotReadableError("PNG without a header")
    image = read_pixels(header, b"".join(pixels), place)
    place.add_numbers(image, "pixels")


def chunks(data: Data) -> Iterator[Chunk]:
    """The chunks up to IEND.

    Raises:
        NotReadableError: one is cut off.
    """
    view = memoryview(data)
    at = len(MAGIC)
    while at < len(view):
        size = int.from_bytes(view[at : at + 4], "big")
        end = at + 12 + size
        if end > len(view):
            raise NotReadableError("PNG is cut off")
        kind = bytes(view[at + 4 : at + 8])
        if zlib.crc32(view[at + 4 : at + 8 + size]) != int.from_bytes(view[end - 4 : end], "big"):
            raise NotReadableError("PNG with a wrong checksum")
        yield Chunk(kind, view[at + 8 : at + 8 + size], end)
        if kind == b"IEND":
            return
        at = end


def parse_header(data: memoryview) -> Header:
    if len(data) != 13:
        raise NotReadableError("PNG header is damaged")
    width, height = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
    depth, colour, packing, filtering, interlacing = data[8:13]
    depths = {0: (1, 2, 4, 8, 16), 3: (1, 2, 4, 8)}.get(colour, (8, 16))
    if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE) or colour not in _CHANNELS or depth not in depths:
        raise NotReadableError("PNG header is damaged")
    if packing or filtering or interlacing > 1:
        raise NotReadableError("PNG of an unknown kind")
    return Header(width, height, depth, colour, bool(interlacing))


def read_pixels(header: Header, packed: bytes, place: Place) -> NDArray[np.uint8 | np.uint16]:
    """The image as height × width × channels. What the pixel data hold beyond it is read as bytes.

    Raises:
        NotReadableError: there are fewer pixels than the header says.
    """
    found = pump(zlib.decompressobj, packed, place.effort)
    place.read(memoryview(packed)[found.used :], "behind the pixels", guessed=True)
    raw = np.frombuffer(found.data, dtype=np.uint8)
    if not header.interlaced:
        image, used = _plane(header, raw, header.width, header.height, place.effort)
    else:
        image, used = _adam7(header, raw, place.effort)
    place.read(memoryview(found.data)[used:], "more pixels than the image has", guessed=True)
    return image


def _adam7(header: Header, raw: Bytes, effort: Effort) -> tuple[NDArray[np.uint8 | np.uint16], int]:
    effort.spend_bytes(header.width * header.height * header.channels)
    kind = np.uint16 if header.depth == 16 else np.uint8
    image = np.zeros((header.height, header.width, header.channels), dtype=kind)
    used = 0
    for left, top, across, down in _PASSES:
        width = -(-(header.width - left) // across)
        height = -(-(header.height - top) // down)
        if width > 0 and height > 0:
            part, size = _plane(header, raw[used:], width, height, effort)
            image[top::down, left::across] = part
            used += size
    return image, used


def _plane(
    header: Header, raw: Bytes, width: int, height: int, effort: Effort
) -> tuple[NDArray[np.uint8 | np.uint16], int]:
    """One pass: rows of a filter byte and the filtered bytes."""
    stride = header.row_bytes(width)
    size = height * (stride + 1)
    if size > len(raw):
        raise NotReadableError("PNG with too few pixels")
    rows = raw[:size].reshape(height, stride + 1)
    step = max(1, header.channels * header.depth // 8)
    unfiltered = unfilter(rows, step, effort)
    return _samples(header, unfiltered, width), size


def unfilter(rows: Bytes, step: int, effort: Effort) -> Bytes:
    """Undo the filter of each row; `step` is the distance in bytes to the pixel on the left."""
    if rows[:, 0].max() > 4:
        raise NotReadableError("PNG with an unknown filter")
    out = np.empty((rows.shape[0], rows.shape[1] - 1), dtype=np.uint8)
    above = np.zeros(out.shape[1], dtype=np.uint8)
    for number, row in enumerate(rows):
        if number % 16 == 0:
            effort.check_time()
        out[number] = above = _FILTERS[int(row[0])](row[1:], above, step)
    return out


def _same(line: Bytes, above: Bytes, step: int) -> Bytes:
    del above, step
    return line


def _sub(line: Bytes, above: Bytes, step: int) -> Bytes:
    del above
    padded = np.zeros(-(-len(line) // step) * step, dtype=np.uint8)
    padded[: len(line)] = line
    return np.cumsum(padded.reshape(-1, step), axis=0, dtype=np.uint8).reshape(-1)[: len(line)]


def _up(line: Bytes, above: Bytes, step: int) -> Bytes:
    del step
    return line + above


def _average(line: Bytes, above: Bytes, step: int) -> Bytes:
    values, upper = line.tolist(), above.tolist()
    for at in range(len(values)):
        left = values[at - step] if at >= step else 0
        values[at] = (values[at] + ((left + upper[at]) >> 1)) & 0xFF
    return np.array(values, dtype=np.uint8)


def _paeth(line: Bytes, above: Bytes, step: int) -> Bytes:
    values, upper = line.tolist(), above.tolist()
    for at in range(len(values)):
        left, corner = (values[at - step], upper[at - step]) if at >= step else (0, 0)
        up = upper[at]
        to_left, to_up, to_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
        nearest = left if to_left <= to_up and to_left <= to_corner else up if to_up <= to_corner else corner
        values[at] = (values[at] + nearest) & 0xFF
    return np.array(values, dtype=np.uint8)


_FILTERS: tuple[Callable[[Bytes, Bytes, int], Bytes], ...] = (_same, _sub, _up, _average, _paeth)


def _samples(header: Header, rows: Bytes, width: int) -> NDArray[np.uint8 | np.uint16]:
    height = len(rows)
    if header.depth == 8:
        return rows.reshape(height, width, header.channels)
    if header.depth == 16:
        return np.ascontiguousarray(rows).view(">u2").astype(np.uint16).reshape(height, width, header.channels)
    bits = np.unpackbits(rows, axis=1)[:, : width * header.depth].reshape(height, width, header.depth)
    weights = (1 << np.arange(header.depth - 1, -1, -1)).astype(np.uint8)
    return (bits * weights).sum(axis=2, dtype=np.uint8)[..., None]


# ── Chunks that hold text or packed bytes ───────────────────────────────────


def _text(data: memoryview, place: Place) -> None:
    keyword, _, text = bytes(data).partition(b"\x00")
    place.read(keyword, "keyword")
    place.read(text, "text")


def _packed_text(data: memoryview, place: Place) -> None:
    """zTXt, and iCCP, which is built in the same way: keyword, method, a zlib stream."""
    keyword, _, rest = bytes(data).partition(b"\x00")
    place.read(keyword, "keyword")
    _inflate(rest[1:], place)


def _international_text(data: memoryview, place: Place) -> None:
    keyword, _, rest = bytes(data).partition(b"\x00")
    place.read(keyword, "keyword")
    language, _, after = rest[2:].partition(b"\x00")
    translated, _, text = after.partition(b"\x00")
    place.read(language, "language")
    place.read(translated, "translated keyword")
    if rest[:1] == b"\x01":
        _inflate(text, place)
    else:
        place.read(text, "text")


def _inflate(packed: bytes, place: Place) -> None:
    found = pump(zlib.decompressobj, packed, place.effort)
    if not found.whole:
        place.add_unread("compressed data is damaged")
        place.read(packed, "damaged", guessed=True)
    place.read(found.data, "unpacked")
    place.read(packed[found.used :], "behind the stream", guessed=True)


_READERS: dict[bytes, Callable[[memoryview, Place], None]] = {
    b"tEXt": _text,
    b"zTXt": _packed_text,
    b"iCCP": _packed_text,
    b"iTXt": _international_text,
}
