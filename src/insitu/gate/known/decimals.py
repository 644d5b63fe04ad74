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
_WORD = 8  # bytes
_LOW = _U64(0x000000FF000000FF)
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
    if int((ends - begins).max(initial=0)) <= _WORD:
        return _in_one_word(data, negative, begins, dots, ends)
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


def _in_one_word(data: Bytes, negative: Flags, begins: Places, dots: Places, ends: Places) -> tuple[Floats, Flags]:
    """As `decimals`, where each cell fits into a word: the digits before its point are moved over the point."""
    has_point = dots < ends
    width = ends - begins
    size = width - has_point
    word = words_at(data, 0, 1, len(data) - 7)[ends - _WORD]
    if has_point.any():
        fraction_size = (ends - dots - 1) * has_point
        behind = _TOP_BYTES.take(fraction_size)
        fraction = word & behind
        word <<= has_point.astype(_U64) << _U64(3)
        word &= ~behind
        word |= fraction
        digits, bad = _spelled(word, size)
        values = digits / _TEN_TO.take(fraction_size)
    else:
        digits, bad = _spelled(word, size)
        values = digits.astype(np.float64)
    bad |= size < 1
    np.negative(values, out=values, where=negative)
    empty = (width == 0) & ~negative
    values[empty] = np.nan
    return values, bad & ~empty


def _spelled(word: Words, sizes: Places) -> tuple[Words, Flags]:
    """What the last `sizes` digits of each word spell, and which of the words hold anything else there."""
    word ^= _ZEROS
    word &= _TOP_BYTES.take(sizes)
    bad = ((word + _U64(0x7676767676767676)) | word) & _U64(0x8080808080808080) != 0
    pairs = word >> _U64(8)
    word *= _U64(10)
    word += pairs
    np.right_shift(word, _U64(16), out=pairs)
    word &= _LOW
    word *= _U64(0x000F424000000064)
    pairs &= _LOW
    pairs *= _U64(0x0000271000000001)
    word += pairs
    word >>= _U64(32)
    return word, bad


def _digits(words: Words, ends: Places, sizes: Places, bad: Flags) -> Floats:
    """The numbers that the `sizes` digits before `ends` spell. Marks as bad what holds anything else."""
    found = np.zeros(len(ends))
    for group in range(0, int(sizes.max(initial=0)), _WORD):
        digits, odd = _spelled(words[ends - (_WORD + group)], np.clip(sizes - group, 0, _WORD))
        bad |= odd
        found += digits * 10.0**group
    return found
