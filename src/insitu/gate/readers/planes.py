"""Looks for streams hidden in the bits of numbers: low bits, single bit planes, signs, codes of characters.

Most low bits of a float32 weight can be overwritten without harm (arXiv
2308.15502), and in a trained model they are noise by nature. So noise there is
no finding: rounding to the policy's precision is what answers it. A finding is
what *decodes*: a compressed stream, an archive, text. It is read like anything
else that was found.

    values of one type, tensor after tensor
      └─► k bits of each, from the lowest that varies ─► bytes ─► magics and text, at every place

| looked at | orders |
|---|---|
| all bits, and 8, 16, 24, 32 … of them | both byte orders |
| every other number of bits up to 24, and every single plane, the sign among them | both bit orders, in values and in bytes; of a plane also its opposite |
| tensor after tensor; matrices alone; one value of each tensor in turn | the rest is as above |
| values as codes: whole numbers up to 255 as bytes, or few distinct values by rank | as they are |

The search costs about six nanoseconds a byte and is bounded (`_purse`): heads
of all streams are looked at in any case, then whole streams, the likely ones
first. What it did not look at is said in `Contents.passed_over`. Encrypted or
re-coded streams do not show themselves to any such search.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from insitu.gate.contents import FoundNumbers, Numbers, Place
from insitu.gate.readers.characters import text_of
from insitu.gate.readers.embedded import beginnings, inflated_at_start, read_from
from insitu.gate.readers.raw import read_raw
from insitu.gate.readers.signatures import has_signature

_LEAST_VALUES = 48
_LEAST_BYTES = 24  # of a stream
_PURSE_BYTES = 8_000_000  # searched for small models …
_PURSE_SHARE = 2  # … and one byte for every so many of larger ones
_HEAD_BYTES = 2048
_RAW_BYTES = 1 << 20  # of a stream that is also looked at as plain numbers
_ALL_ALIGNMENTS = 1 << 14  # bytes: in streams so short a beginning is sought at every bit
_MAX_WIDTH = 24  # bits that are looked at in every number, bytes apart
_FIRST = (16, 8, 1, 4, 2, 24, 32, 12, 23, 48, 52, 40)
_MAX_CODES = 1_000_000
_MAX_IN_TURN = 64  # tensors of which one value each may be taken in turn
_MAX_COLUMNS = 16  # of a table whose columns are looked at as bytes, one by one
_DECIMALS = (1, 2, 3, 4)
_TEXT_RUN = 64
_LEAST_LETTERS = 12
_USUAL = b" \t\r\n,.;:-_/+=\"'0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_TEXT_TABLE = bytes(97 if 32 <= byte < 127 or byte in (9, 10, 13) else 0 for byte in range(256))
_TEXT = re.compile(rb"[\t\r\n\x20-\x7e]{%d,}" % _TEXT_RUN)
_ENOUGH = 3  # streams found in one group: no need to find each of its copies in other slices
_MAX_TEXTS = 200

Bits = NDArray[np.unsignedinteger]
Stream = NDArray[np.uint8]


@dataclass(frozen=True)
class _Slice:
    """`width` bits of each value, the lowest of them number `low`."""

    low: int
    width: int

    @property
    def label(self) -> str:
        return f"bit {self.low}" if self.width == 1 else f"bits {self.low} to {self.low + self.width - 1}"


@dataclass
class _Purse:
    left: int

    def pay(self, size: int) -> bool:
        if size > self.left:
            return False
        self.left -= size
        return True


def read_planes(found: Sequence[FoundNumbers], place: Place) -> None:
    """Search the bits of `found`, which is all that was read from one file."""
    groups: dict[np.dtype[np.generic], list[FoundNumbers]] = {}
    for item in found:
        if not item.raw and item.values.size:
            groups.setdefault(item.values.dtype.newbyteorder("="), []).append(item)
    size = sum(item.values.nbytes for items in groups.values() for item in items)
    purse = _Purse(max(_PURSE_BYTES, size // _PURSE_SHARE))
    for items in groups.values():
        arrays = [item.values for item in items]
        if sum(array.size for array in arrays) < _LEAST_VALUES:
            continue
        within = place.at(f"from {items[0].where}") if items[0].where != place.where else place
        group = _Group(replace(within, chance=True), purse)
        group.search(bits_of(arrays))
        _search_codes(arrays, group)
        for bits in _other_orders(arrays):
            _Group(group.place, _Purse(_PURSE_BYTES // 4)).search(bits)


class _Group:
    """The search over values of one type."""

    def __init__(self, place: Place, purse: _Purse) -> None:
        self.place = place
        self._purse = purse
        self._hits = 0
        self._half = ""  # the lower half of each value, where narrower numbers would be put

    def search(self, bits: Bits) -> None:
        varying = int(np.bitwise_or.reduce(bits) ^ np.bitwise_and.reduce(bits))
        if not varying:
            return
        slices = list(_slices(varying))
        self._half = _Slice(0, 4 * bits.dtype.itemsize).label
        head = bits[: _HEAD_BYTES * 8]
        for one in slices:
            self._search_slice(head[: max(_LEAST_VALUES, _HEAD_BYTES * 8 // one.width)], one, head_only=True)
        skipped = sum(not self._search_slice(bits, one, head_only=False) for one in slices)
        if skipped:
            self.place.contents.add_passed_over(
                self.place.where, f"{skipped} of {len(slices)} slices of bits were not searched to their end"
            )

    def _search_slice(self, bits: Bits, one: _Slice, *, head_only: bool) -> bool:
        """Search one slice in all orders; False if it was too large for what is left to spend."""
        size = len(bits) * one.width // 8
        step = math.gcd(one.width, 8)  # a stream begins at a value, so at a multiple of this in its bytes
        alignments = range(0, 8, 1 if size <= _ALL_ALIGNMENTS else step)
        orders = 2 if one.width % 8 == 0 and one.low % 8 == 0 else 4
        if not head_only and size <= _HEAD_BYTES // 2:
            return True  # all of it was its head
        if not head_only and not self._purse.pay(size * orders * len(alignments)):
            if one.width % 8 or not self._purse.pay(size):
                return False
            orders = 1  # the usual one of bytes: the lowest first
        self.place.effort.check_time()
        for stream, low_first in islice(streams(bits, one), orders):
            self.look_into(stream, one.label, alignments[:1] if orders == 1 else alignments, low_first=low_first)
        return orders > 1

    def look_into(self, stream: Stream, label: str, alignments: Sequence[int], *, low_first: bool) -> None:
        """Read what begins in `stream`, moved by each of so many bits."""
        if len(stream) < _LEAST_BYTES or self._hits >= _ENOUGH:
            return
        rows = shifted(stream, alignments, low_first=low_first)
        width = rows.shape[1]
        data = rows.tobytes()
        inside = self.place.at(label)
        done = 0
        for at in beginnings(data):
            if at >= done:
                row_end = (at // width + 1) * width
                done = at + read_from(data[at:row_end], inside)
        if done:
            self._hits += 1
            return
        if data.translate(_TEXT_TABLE).find(b"a" * _TEXT_RUN) >= 0:
            runs = [match.group() for match, _ in zip(_TEXT.finditer(data), range(_MAX_TEXTS), strict=False)]
            self.place.read(b"\n".join(filter(_is_written, runs)), f"{label}: letters", noise=True)
        start = data[: width - 1]
        if (inflated := inflated_at_start(start, self.place.effort)) is not None:
            inside.add_kind("hidden stream")
            inside.read(inflated, "unpacked", guessed=True)
        if label == self._half and width <= _RAW_BYTES and _may_be_floats(start):
            read_raw(start, inside.where, self.place.contents, aligned=True)

    def read_bytes(self, array: Numbers) -> None:
        """Read whole numbers up to 255 as the bytes that they may be, if those tell themselves."""
        flat = array.reshape(-1)
        sample = flat[:4096]
        if len(flat) < _LEAST_BYTES or not (_are_bytes(sample) and _are_bytes(flat)):
            return
        data = flat.astype(np.uint8).tobytes()
        packed = has_signature(data) or has_signature(data[::-1])
        if packed:
            self.place.at("values as bytes").add_kind("hidden stream")
        if packed or text_of(data) is not None:  # ages and counts may be letters as well: that alone says nothing
            self.place.read(data, "values as bytes", guessed=True)


def _other_orders(arrays: Sequence[Numbers]) -> Iterator[Bits]:
    """Other ways to go through several tensors: matrices alone, as biases stand between them; one value of each in turn."""
    matrices = [array for array in arrays if array.ndim > 1]
    if 1 < len(matrices) < len(arrays):
        yield bits_of(matrices)
    for some in [arrays] if len(matrices) in (0, len(arrays)) else [arrays, matrices]:
        if 1 < len(some) <= _MAX_IN_TURN:
            yield bits_in_turn(some)


def bits_in_turn(arrays: Sequence[Numbers]) -> Bits:
    """The first value of each, then the second of each; those that have ended are passed over."""
    bits = bits_of(arrays)
    sizes = [array.size for array in arrays]
    if len(set(sizes)) == 1:
        return bits.reshape(len(sizes), -1).T.reshape(-1)
    number = np.concatenate([np.arange(size) for size in sizes])
    return bits[np.argsort(number, kind="stable")]


def bits_of(arrays: Sequence[Numbers]) -> Bits:
    """All values, one after the other, as the unsigned integers that they are stored as."""
    flat = [np.ascontiguousarray(array).reshape(-1) for array in arrays]
    whole = flat[0] if len(flat) == 1 else np.concatenate(flat)
    native = whole.astype(whole.dtype.newbyteorder("="), copy=False)
    return native.view(f"u{native.dtype.itemsize}")


def _slices(varying: int) -> Iterator[_Slice]:
    """What to look at, the likely first. Bits that never vary carry nothing, so counting begins above them."""
    low = (varying & -varying).bit_length() - 1
    span = varying.bit_length() - low
    rest = [width for width in range(2, _MAX_WIDTH + 1) if width not in _FIRST]
    widths = [width for width in (*_FIRST, *rest) if width <= span and width != 1]
    single = [_Slice(bit, 1) for bit in range(low, low + span) if varying >> bit & 1]
    yield from (_Slice(low, width) for width in widths[:2])
    yield _Slice(low // 8 * 8, -(-(low % 8 + span) // 8) * 8)  # all bits, as bytes
    yield from dict.fromkeys((single[-1], single[0]))  # the sign, or what stands highest; the lowest bit
    places = range((low + 8) // 8 * 8, low + span - 7, 8)
    yield from (_Slice(bit, width) for width in (8, 16) for bit in places if bit + width <= low + span)
    yield from (_Slice(low, width) for width in widths[2:])
    yield from single[1:-1]


def streams(bits: Bits, one: _Slice) -> Iterator[tuple[Stream, bool]]:
    """The slice's bits as bytes, in every order in which one would lay them down; True: the lowest bit first."""
    size = bits.dtype.itemsize
    if one.width % 8 == 0 and one.low % 8 == 0:
        columns = bits.view(np.uint8).reshape(-1, size)[:, one.low // 8 : (one.low + one.width) // 8]
        yield np.ascontiguousarray(columns).reshape(-1), True
        yield np.ascontiguousarray(columns[:, ::-1]).reshape(-1), False
        return
    if one.width == 1:
        plane = (bits >> bits.dtype.type(one.low)).astype(np.uint8) & 1
        for bit in (plane, 1 - plane):  # a sign bit says "negative", where one may have meant "positive"
            yield np.packbits(bit, bitorder="big"), False
            yield np.packbits(bit, bitorder="little"), True
        return
    rows = np.unpackbits(bits.astype(bits.dtype.newbyteorder(">")).view(np.uint8).reshape(-1, size), axis=1)
    top = 8 * size - one.low
    high_first = rows[:, top - one.width : top]
    yield np.packbits(high_first.reshape(-1), bitorder="big"), False
    yield np.packbits(high_first[:, ::-1].reshape(-1), bitorder="little"), True
    yield np.packbits(high_first[:, ::-1].reshape(-1), bitorder="big"), False
    yield np.packbits(high_first.reshape(-1), bitorder="little"), True


def shifted(stream: Stream, alignments: Sequence[int], *, low_first: bool) -> Stream:
    """A row for each alignment: the stream without its first so many bits, and a zero that ends it."""
    rows = np.zeros((len(alignments), len(stream) + 1), dtype=np.uint8)
    if len(alignments) == 1:
        rows[0, :-1] = stream
        return rows
    pairs = stream.astype(np.uint16)
    after = np.append(pairs[1:], np.uint16(0))
    pairs = pairs | after << 8 if low_first else pairs << 8 | after
    for row, alignment in zip(rows, alignments, strict=True):
        row[:-1] = pairs >> (alignment if low_first else 8 - alignment)  # the low byte of it
    return rows


def _is_written(run: bytes) -> bool:
    """Letters as people and tables use them: bits that hardly vary, as those of exponents, make long runs of a few."""
    return len(set(run)) >= _LEAST_LETTERS and len(run.translate(None, _USUAL)) < len(run) / 8


def _may_be_floats(data: bytes) -> bool:
    """Nearly all of one everyday size: other bits, read as floats, are of every size."""
    values = np.abs(np.frombuffer(data, dtype="<f4", count=len(data) // 4))
    return int(np.count_nonzero((values > 1e-5) & (values < 1e7))) >= 0.9 * len(values)


# ── Values as codes ─────────────────────────────────────────────────────────


def _search_codes(arrays: Sequence[Numbers], group: _Group) -> None:
    """Whole numbers up to 255 as bytes; few distinct values as digits of so many bits."""
    flat = np.concatenate([array.reshape(-1)[:_MAX_CODES] for array in arrays])[:_MAX_CODES]
    if flat.dtype.kind == "f":
        flat = flat[np.isfinite(flat)]
    if len(flat) < _LEAST_BYTES:
        return
    for array in arrays:
        group.read_bytes(array)
        for part in _parts(array):
            group.read_bytes(part)
    values = np.unique(flat[:4096])
    width = max(1, (len(values) - 1).bit_length())
    if width > 6 or not np.isin(flat, values).all():
        return
    ranks = np.searchsorted(values, flat).astype(np.uint8)
    for one in (ranks, (len(values) - 1 - ranks).astype(np.uint8)):
        for stream, low_first in streams(one, _Slice(0, width)):
            group.look_into(stream, "values by rank", range(0, 8, math.gcd(width, 8)), low_first=low_first)


def _parts(array: Numbers) -> Iterator[Numbers]:
    """What may be bytes in an array that is none as a whole: single columns or channels, and decimals as whole numbers."""
    if array.ndim > 1 and 1 < array.shape[-1] <= _MAX_COLUMNS:
        columns = [array[..., at].reshape(-1) for at in range(array.shape[-1])]
        yield from columns
    else:
        columns = [array.reshape(-1)]
    for column in columns:
        sample = _wide(column[:4096])
        if column.dtype.kind == "f" and np.isfinite(sample).all() and np.abs(sample).max(initial=0) < 256:
            for decimals in _DECIMALS:
                if np.allclose(whole := np.rint(sample * 10.0**decimals), sample * 10.0**decimals, rtol=0, atol=1e-3):
                    if whole.max(initial=0) <= 255:
                        yield np.rint(_wide(column) * 10.0**decimals)
                    break


def _wide(values: Numbers) -> Numbers:
    """In double precision if it is not whole numbers: in half precision a few decimals more are out of range."""
    return values.astype(np.float64) if values.dtype.kind == "f" else values


def _are_bytes(values: Numbers) -> bool:
    if values.dtype.kind == "b" or not np.isfinite(values).all():
        return False
    return bool(values.min() >= 0 and values.max() <= 255 and np.array_equal(values, np.rint(values)))
