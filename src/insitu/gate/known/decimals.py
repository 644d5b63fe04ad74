"""Reads many decimal numbers at once.

Eight digits are one word of memory, and three multiplications make a number of
it (Lemire: Quickly parsing eight digits, 2018). Numbers of at most fifteen
digits are exact, as a quotient of two exact doubles (Clinger: How to read
floating point numbers accurately, 1990); longer ones may be off by two units in
the last place, far less than the scan's tolerance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from insitu.gate.known.fingerprints import Bytes, Words, words_at

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Places = NDArray[np.int64]

_U64 = np.uint64
_ZEROS = _U64(0x3030303030303030)
_TOP_BYTES: Words = np.array([((1 << 8 * size) - 1) << 8 * (8 - size) for size in range(9)], dtype=_U64)
_TEN_TO = 10.0 ** np.arange(25)
_MOST_WHOLE, _MOST_FRACTION = 16, 24


def decimals(data: Bytes, starts: Places, dots: Places, ends: Places) -> tuple[Floats, Flags]:
    """The values of the cells `data[start:end]`, and which of them are none of the form `-12.5`.

    `dots` holds the place of each cell's point, or its end where it has none. Before the first cell there must be
    32 bytes. An empty cell is NaN.
    """
    negative = data[starts] == 45
    begins = starts + negative
    whole_size, fraction_size = dots - begins, np.maximum(ends - dots - 1, 0)
    size = whole_size + fraction_size
    bad = (whole_size < 0) | (whole_size > _MOST_WHOLE) | (fraction_size > _MOST_FRACTION) | (size < 1)
    words = words_at(data, 0, 1, len(data) - 7)
    fraction_size = np.where(bad, 0, fraction_size)
    fraction = _digits(words, ends, fraction_size, bad)
    whole = _digits(words, dots, np.where(bad, 0, whole_size), bad)
    power = _TEN_TO[fraction_size]
    values = (whole * power + fraction) / power
    empty = starts == ends
    values = np.where(empty, np.nan, np.where(negative, -values, values))
    return values, bad & ~empty


def _digits(words: Words, ends: Places, sizes: Places, bad: Flags) -> Floats:
    """The numbers that the `sizes` digits before `ends` spell. Marks as bad what holds anything else."""
    found = np.zeros(len(ends))
    for group in range(0, int(sizes.max(initial=0)), 8):
        left = np.clip(sizes - group, 0, 8)
        used = _TOP_BYTES[left]
        digits = (words[ends - (8 + group)] ^ _ZEROS) & used
        bad |= ((digits + _U64(0x7676767676767676)) | digits) & _U64(0x8080808080808080) != 0
        digits = digits * _U64(10) + (digits >> _U64(8))
        low, high = _U64(0x000000FF000000FF), _U64(16)
        digits = (digits & low) * _U64(0x000F424000000064) + (digits >> high & low) * _U64(0x0000271000000001)
        found += (digits >> _U64(32)) * 10.0**group
    return found
