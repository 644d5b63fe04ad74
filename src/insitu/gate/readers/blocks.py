"""Unpacks snappy and LZ4 blocks: what parquet's pages are packed with.

Formats: google/snappy, format_description.txt; lz4/lz4, doc/lz4_Block_format.md.
Both are a chain of literals and of copies from what is out already.
"""

from __future__ import annotations

from insitu.gate.contents import Data, NotReadableError
from insitu.gate.effort import Effort
from insitu.gate.readers.protobuf import read_varint

_CHECK_EVERY = 4096  # elements


class _Output:
    """What has come out so far, and the bounds that it must keep."""

    def __init__(self, effort: Effort) -> None:
        self.data = bytearray()
        self._effort = effort
        self._elements = 0
        self._counted = 0

    def literal(self, part: memoryview, size: int) -> None:
        if len(part) != size:
            raise NotReadableError("packed block is cut off")
        self.data += part
        self._count()

    def copy(self, offset: int, size: int) -> None:
        start = len(self.data) - offset
        if offset <= 0 or start < 0:
            raise NotReadableError("packed block refers to before its start")
        if size > self._effort.left_bytes:
            self._effort.spend_bytes(size)
        if offset >= size:
            self.data += self.data[start : start + size]
        else:  # overlapping: the copy repeats what it makes
            pattern = bytes(self.data[start:])
            self.data += (pattern * -(-size // offset))[:size]
        self._count()

    def _count(self) -> None:
        self._elements += 1
        if self._elements % _CHECK_EVERY == 0 or len(self.data) - self._counted > 1 << 20:
            self._effort.spend_bytes(len(self.data) - self._counted)
            self._counted = len(self.data)

    def finish(self) -> bytes:
        self._effort.spend_bytes(len(self.data) - self._counted)
        return bytes(self.data)


def unpack_snappy(data: Data, effort: Effort) -> bytes:
    """A snappy block.

    Raises:
        NotReadableError: it is damaged.
        OutOfEffortError: it grows beyond the judgement's bounds.
    """
    view = memoryview(data)
    size, at = read_varint(view, 0)
    out = _Output(effort)
    while at < len(view):
        tag = view[at]
        at += 1
        kind = tag & 3
        if kind == 0:
            length = (tag >> 2) + 1
            if length > 60:
                extra = length - 60
                length = int.from_bytes(view[at : at + extra], "little") + 1
                at += extra
            out.literal(view[at : at + length], length)
            at += length
        elif kind == 1:
            offset = (tag >> 5) << 8 | int.from_bytes(view[at : at + 1], "little")
            out.copy(offset, (tag >> 2 & 7) + 4)
            at += 1
        else:
            width = 2 if kind == 2 else 4
            out.copy(int.from_bytes(view[at : at + width], "little"), (tag >> 2) + 1)
            at += width
    if len(out.data) != size:
        raise NotReadableError("packed block of another length than it says")
    return out.finish()


def unpack_lz4(data: Data, effort: Effort) -> bytes:
    """An LZ4 block, without a frame.

    Raises:
        NotReadableError: it is damaged.
        OutOfEffortError: it grows beyond the judgement's bounds.
    """
    view = memoryview(data)
    out = _Output(effort)
    at = 0
    while at < len(view):
        token = view[at]
        length, at = _length(view, at + 1, token >> 4)
        out.literal(view[at : at + length], length)
        at += length
        if at >= len(view):
            break
        offset = int.from_bytes(view[at : at + 2], "little")
        length, at = _length(view, at + 2, token & 15)
        out.copy(offset, length + 4)
    return out.finish()


def _length(view: memoryview, at: int, length: int) -> tuple[int, int]:
    if length == 15:
        while at < len(view):
            more = view[at]
            length += more
            at += 1
            if more < 255:
                break
    return length, at
