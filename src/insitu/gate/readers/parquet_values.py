"""Decodes the values of parquet pages: plain, dictionary, run lengths, split streams, deltas.

Format: apache/parquet-format, Encodings.md. Bits are packed from the lowest up.
Delta encodings of strings are not decoded; their pages are looked at as bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from insitu.gate.contents import Data, NotReadableError, Numbers
from insitu.gate.effort import Effort
from insitu.gate.readers.protobuf import read_varint

Ints = NDArray[np.int64]
Values = Numbers | list[bytes]

BOOLEAN, INT32, INT64, INT96, FLOAT, DOUBLE, BYTE_ARRAY, FIXED = range(8)
_PLAIN_TYPES = {INT32: "<i4", INT64: "<i8", FLOAT: "<f4", DOUBLE: "<f8"}
_NS_A_DAY = 86_400 * 10**9
_UNIX_EPOCH = 2_440_588  # as a Julian day


def plain(data: Data, type_: int, count: int, width: int, effort: Effort) -> Values:
    """`count` values that stand one after the other.

    Raises:
        NotReadableError: there are fewer.
    """
    effort.spend_values(count)
    if type_ in _PLAIN_TYPES:
        return _take(data, _PLAIN_TYPES[type_], count)
    if type_ == BOOLEAN:
        bits = np.unpackbits(_take(data, "u1", -(-count // 8)), bitorder="little")
        return bits[:count]
    if type_ == INT96:  # a time: nanoseconds of the day, and the day
        parts = _take(data, "<u4", count * 3).reshape(-1, 3).astype(np.int64)
        return (parts[:, 2] - _UNIX_EPOCH) * _NS_A_DAY + (parts[:, 0] | parts[:, 1] << 32)
    if type_ == FIXED:
        whole = bytes(data[: width * count])
        if width <= 0 or len(whole) < width * count:
            raise NotReadableError("parquet page with too few values")
        return [whole[at : at + width] for at in range(0, len(whole), width)]
    return _byte_arrays(data, count)


def _byte_arrays(data: Data, count: int) -> list[bytes]:
    values: list[bytes] = []
    whole = bytes(data)
    at = 0
    for _ in range(count):
        size = int.from_bytes(whole[at : at + 4], "little")
        if at + 4 + size > len(whole):
            raise NotReadableError("parquet page with too few values")
        values.append(whole[at + 4 : at + 4 + size])
        at += 4 + size
    return values


def _take(data: Data, dtype: str, count: int) -> Numbers:
    if count * np.dtype(dtype).itemsize > len(data):
        raise NotReadableError("parquet page with too few values")
    return np.frombuffer(data, dtype=dtype, count=count)


def split_streams(data: Data, type_: int, count: int, effort: Effort) -> Numbers:
    """BYTE_STREAM_SPLIT: all first bytes, then all second bytes, and so on."""
    dtype = _PLAIN_TYPES.get(type_)
    if dtype is None:
        raise NotReadableError("parquet encoding that is not read here")
    size = np.dtype(dtype).itemsize
    effort.spend_values(count)
    streams = _take(data, "u1", count * size).reshape(size, count)
    return np.ascontiguousarray(streams.T).view(dtype).reshape(-1)


def run_lengths(data: Data, width: int, count: int, effort: Effort) -> Ints:
    """The hybrid of run lengths and packed bits, of which `count` values are wanted.

    Raises:
        NotReadableError: there are fewer.
    """
    if not 0 <= width <= 32:
        raise NotReadableError("parquet levels too wide")
    effort.spend_values(count)
    view = memoryview(data)
    out = np.zeros(count, dtype=np.int64)
    filled = at = 0
    while filled < count:
        effort.check_time()
        head, at = read_varint(view, at)
        if head & 1:
            size = (head >> 1) * width
            if width and size > len(view) - at:
                size = len(view) - at  # the last run may be cut to what is needed
            values = unpack_bits(view[at : at + size], width)
            if width and not len(values):
                raise NotReadableError("parquet page with too few values")
            at += size
            take = min(count - filled, len(values) if width else (head >> 1) * 8)
            if width:
                out[filled : filled + take] = values[:take]
        else:
            size = -(-width // 8)
            take = min(count - filled, head >> 1)
            out[filled : filled + take] = int.from_bytes(view[at : at + size], "little")
            at += size
        if not take:
            raise NotReadableError("parquet run of no length")
        filled += take
    return out


def unpack_bits(data: Data, width: int) -> Ints:
    """Numbers of `width` bits each, the lowest bit first."""
    if not width:
        return np.zeros(0, dtype=np.int64)
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), bitorder="little")
    rows = bits[: len(bits) // width * width].reshape(-1, width).astype(np.int64)
    return rows @ (np.int64(1) << np.arange(width, dtype=np.int64))


def deltas(data: Data, count: int, effort: Effort) -> Ints:
    """DELTA_BINARY_PACKED: a first value, and differences in blocks of small ones.

    Raises:
        NotReadableError: it is damaged.
    """
    view = memoryview(data)
    block, at = read_varint(view, 0)
    parts, at = read_varint(view, at)
    total, at = read_varint(view, at)
    first, at = read_varint(view, at)
    if (
        not parts
        or not block
        or block % parts
        or (block // parts) % 8
        or block > 1 << 20
        or total > 8 * block * len(view)
    ):
        raise NotReadableError("parquet deltas are damaged")
    effort.spend_values(total)
    found: list[Ints] = [np.array([_zigzag(first)], dtype=np.int64)]
    left = total - 1
    while left > 0:
        effort.check_time()
        least, at = read_varint(view, at)
        widths = bytes(view[at : at + parts])
        at += parts
        for width in widths:
            if left <= 0:
                break
            size = block // parts * width // 8
            if width > 64 or at + size > len(view):
                raise NotReadableError("parquet deltas are damaged")
            steps = unpack_bits(view[at : at + size], width) if width else np.zeros(block // parts, dtype=np.int64)
            found.append((steps + np.int64(_zigzag(least)))[:left])
            left -= len(found[-1])
            at += size
        if len(widths) < parts:
            raise NotReadableError("parquet deltas are damaged")
    values = np.cumsum(np.concatenate(found), dtype=np.int64)
    if len(values) < count:
        raise NotReadableError("parquet page with too few values")
    return values[:count]


def _zigzag(value: int) -> int:
    return (value >> 1) ^ -(value & 1)


def looked_up(dictionary: Values | None, places: Ints) -> Values:
    """The dictionary's values at `places`.

    Raises:
        NotReadableError: there is no dictionary, or no such place in it.
    """
    if dictionary is None or (len(places) and int(places.max()) >= len(dictionary)):
        raise NotReadableError("parquet page without its dictionary")
    if isinstance(dictionary, list):
        return [dictionary[place] for place in places.tolist()]
    return dictionary[places]


def with_gaps(values: Values, present: NDArray[np.bool_]) -> Values:
    """Values at the places where they are present: NaN or an empty text elsewhere."""
    if isinstance(values, list):
        rest = iter(values)
        return [next(rest, b"") if there else b"" for there in present.tolist()]
    out = np.full(len(present), np.nan)
    out[np.flatnonzero(present)[: len(values)]] = values
    return out
