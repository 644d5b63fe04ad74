"""The wire format of protocol buffers, without a schema: fields by number (protobuf.dev, "Encoding").

Groups, which the format has given up, are no fields here; nothing that reads
the formats in question writes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from insitu.gate.contents import Data, NotReadableError, Numbers

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_MAX_VARINT = 10  # bytes


@dataclass(frozen=True, slots=True)
class Field:
    number: int
    wire_type: int
    value: int  # of a varint or fixed field, as an unsigned number
    data: memoryview  # of a field with a length; else empty


_EMPTY = memoryview(b"")


def fields(data: Data) -> Iterator[Field]:
    """The fields of one message, in order.

    Raises:
        NotReadableError: it is none, at the place where that shows.
    """
    view = memoryview(data)
    at, end = 0, len(view)
    while at < end:
        key, at = read_varint(view, at)
        number, wire_type = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise NotReadableError("protobuf field without a number")
        if wire_type == VARINT:
            value, at = read_varint(view, at)
            yield Field(number, wire_type, value, _EMPTY)
        elif wire_type == BYTES:
            size, at = read_varint(view, at)
            if size > end - at:
                raise NotReadableError("protobuf field is cut off")
            yield Field(number, wire_type, 0, view[at : at + size])
            at += size
        elif wire_type in (FIXED32, FIXED64):
            size = 4 if wire_type == FIXED32 else 8
            if size > end - at:
                raise NotReadableError("protobuf field is cut off")
            yield Field(number, wire_type, int.from_bytes(view[at : at + size], "little"), _EMPTY)
            at += size
        else:
            raise NotReadableError("protobuf field of an unknown type")


def read_varint(view: memoryview, at: int) -> tuple[int, int]:
    """A number in base 128, and the place behind it.

    Raises:
        NotReadableError: it does not end.
    """
    value = 0
    for place in range(_MAX_VARINT):
        if at + place >= len(view):
            break
        byte = view[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at + place + 1
    raise NotReadableError("number without an end")


def packed_varints(data: Data) -> Numbers:
    """All numbers of a packed field, as signed 64-bit integers.

    Raises:
        NotReadableError: the last one does not end.
    """
    raw = np.frombuffer(data, dtype=np.uint8)
    if not len(raw):
        return np.empty(0, dtype=np.int64)
    ends = np.flatnonzero(raw < 0x80)
    if not len(ends) or ends[-1] != len(raw) - 1:
        raise NotReadableError("number without an end")
    starts = np.concatenate(([0], ends[:-1] + 1))
    place = np.arange(len(raw)) - np.repeat(starts, ends - starts + 1)
    if int(place.max()) >= _MAX_VARINT:
        raise NotReadableError("number without an end")
    parts = (raw & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.bitwise_or.reduceat(parts, starts).view(np.int64)


def signed(value: int) -> int:
    """A varint as the negative number that it may spell."""
    return value - (1 << 64) if value >> 63 else value
