"""How many bytes a canonical copy could carry: the number that a release's ledger entry states.

The count is the length of a *code word*. Fix one uniquely decodable code for
canonical copies, the same for everybody and known beforehand: then at most 2^n
different copies have code words of n bits (Kraft, 1949; McMillan, 1956), and
whoever chooses among them, by whatever scheme, tells at most n bits. So the
length of any such code is an upper bound on what a release carries, for weights
that were trained honestly and for weights that were written by hand alike, and
a shorter code is only a sharper bound, never a false one.

What the policy asked for is the format, not the values: a constant. All of the
weights' bits that survive rounding are counted, and so is the choice of
architecture, names and structure. What canonical copies don't leave open costs
nothing: order of tensors and nodes, names of inner tensors, headers, padding,
numbers of a tree's nodes. What the receiver knows anyway costs nothing either:
the signed lock, and the names of columns that the site publishes.

The code, part by part; each part says how long it is before it goes on:

| part | coded as |
|---|---|
| floats | per array the number of significant bits in use and the range of exponents; per value sign, exponent and those bits; or one of the distinct values of the array |
| integers | per array smallest and largest; per value a number between; or one of the distinct values |
| text and structure | deflate (RFC 1951), started on what the receiver knows |

Not counted: that a model came at all, when, and from which of several jobs. Those
are bounded by the budgets and by the number of runs.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np

from insitu.gate.canonical.precision import GRID_STEPS, SIGNIFICANT, Array
from insitu.gate.policy.values import Precision

_HEADER_BITS = 64  # which code, and its parameters: significant bits, smallest exponent, number of exponents
_LENGTH_BYTES = 4
_COUNT_BITS = 32  # how many of them follow; how many dimensions and how long each is
_EXPONENTS = 254  # of normal float32
_OTHER_FLOATS = 4  # zero, not a number, and both infinities
_DISTINCT_AT_MOST = 1 << 16


def bits_of_array(values: Array) -> int:
    """Of an array whose place is known: shape and values."""
    shape = _COUNT_BITS * (1 + values.ndim)
    if values.size == 0:
        return shape
    if values.dtype.kind in "US":
        return shape + 8 * bytes_of_text(values.tobytes())
    return shape + bits_of_values(values)


def bits_of_values(values: Array) -> int:
    """Of the numbers alone, in a known order."""
    flat = values.reshape(-1)
    if flat.size == 0:
        return 0
    each = _float_bits(flat) if flat.dtype.kind == "f" else _integer_bits(flat)
    return _HEADER_BITS + min(math.ceil(each * flat.size), _by_distinct_values(flat))


def bits_of_choices(count: int, among: int) -> int:
    """Of `count` choices, each among `among` things."""
    return math.ceil(count * math.log2(max(among, 1)))


def bits_of_grid(values: Array, groups: Array, precision: Precision | None) -> int:
    """Of thresholds as `Rounding.on_grid` leaves them: the ends of each group's grid, then rounded numbers or steps."""
    plain = bits_of_values(values)
    if precision is None or not values.size:
        return plain
    rounded = 2 * _EXPONENTS * 2 ** (SIGNIFICANT[precision] - 1) + _OTHER_FLOATS
    ends = len(np.unique(groups)) * 2 * 32
    return min(plain, _HEADER_BITS + ends + bits_of_choices(values.size, rounded + GRID_STEPS + 1))


def bytes_of_text(text: bytes, known: bytes = b"") -> int:
    """Of text or structure for a receiver who has `known`: the end of it, 32 KiB, is what deflate can refer to."""
    packer = zlib.compressobj(level=9, wbits=-15, zdict=known[-32_000:]) if known else zlib.compressobj(9, wbits=-15)
    return min(len(text), len(packer.compress(text) + packer.flush())) + _LENGTH_BYTES


def bytes_of(bits: int) -> int:
    return -(-bits // 8)


def bits_of_integers(integers: Sequence[int]) -> int:
    """Of whole numbers of any size."""
    if not integers or max(abs(number) for number in integers) < 2**62:
        return bits_of_values(np.array(integers, dtype=np.int64))
    return _HEADER_BITS + sum(2 * number.bit_length() + 2 for number in integers)  # Elias gamma with a sign


def _float_bits(values: Array) -> float:
    """A value's share: zero or an exponent in the range that is in use, a sign, the significant bits in use."""
    if values.dtype.itemsize == 2:
        values = values.astype(np.float32)
    bits, stored = (np.uint64, 52) if values.dtype.itemsize == 8 else (np.uint32, 23)
    raw = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("=")).view(bits)
    exponents = (raw >> bits(stored)) & bits(0x7FF if stored == 52 else 0xFF)
    every = np.isfinite(values).all()
    if not every:
        raw, exponents = raw[np.isfinite(values)], exponents[np.isfinite(values)]
    others = 0 if every else 3  # not a number, and both infinities
    used = raw << bits(1) != 0
    if not used.any():
        return math.log2(1 + others)
    low, high = (int(exponents[used].min()), int(exponents.max())) if not used.all() else _ends(exponents)
    together = int(np.bitwise_or.reduce(raw)) & ((1 << stored) - 1)
    fraction = stored - ((together & -together).bit_length() - 1) if together else 0
    return math.log2(2 * (high - low + 1) * 2**fraction + 1 + others)


def _ends(values: Array) -> tuple[int, int]:
    return int(values.min()), int(values.max())


def _integer_bits(values: Array) -> float:
    return math.log2(int(values.max()) - int(values.min()) + 1)


def _by_distinct_values(values: Array) -> int:
    """A list of the distinct values, and for each place one of them."""
    if values.size > 1 and len(np.unique(values[:4096])) > 2048:
        return 1 << 62  # most of them differ: this code is the longer one
    distinct = np.unique(values)
    if len(distinct) > _DISTINCT_AT_MOST:
        return 1 << 62
    return len(distinct) * values.dtype.itemsize * 8 + bits_of_choices(values.size, len(distinct))
