"""Which figures about a column may leave the site: rounded, and none that stands for fewer than k rows.

The smallest and the largest value are single rows' values, so a range goes from
the k-th value from below to the k-th from above, rounded outward to steps of a 1-2-5
series, of which at most 20 lie between the two. A category is told only when k rows
have it; how many have it, and whether there are others, is not. The method is the
usual one of statistical offices (threshold rule and rounding; Hundepool et al.,
Statistical Disclosure Control, 2012, chapters 4 and 5).

Pure: values in, figures out. `k` is the publication's `minimum_rows`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insitu.wire.datasets import LONGEST_CATEGORY, MAX_CATEGORIES, MissingBand

LEAST_MINIMUM_ROWS = 5
DEFAULT_MINIMUM_ROWS = 10

_STEPS = 20  # at most, between both ends of a range
_BANDS: tuple[tuple[float, MissingBand], ...] = ((0.25, "5-25%"), (0.5, "25-50%"), (0.75, "50-75%"), (1.0, "75-95%"))
_EDGE = 0.05


@dataclass(frozen=True)
class Figures:
    """A column's values, ready to be told. Each is None where too few rows stand behind it."""

    range: tuple[float, float] | None
    quartiles: tuple[float, float, float] | None
    step: float
    """What they are rounded to."""


_NOTHING = Figures(None, None, 0.0)


def figures(ordered: NDArray[Any], k: int, *, whole: bool = False) -> Figures:
    """Range and quartiles of a column.

    Args:
        ordered: its finite values, ascending. May be mapped from disk: only a few are read.
        k: rows that each figure stands for at least.
        whole: they are integers, and stay integers.
    """
    count = len(ordered)
    if count < 3 * k:
        return _NOTHING
    low, high = float(ordered[k - 1]), float(ordered[count - k])
    step = _step(low, high, whole=whole)
    if step is None:
        return _NOTHING
    found = (float(_down(low, step)), float(_up(high, step)))
    if not all(math.isfinite(end) for end in found):
        return _NOTHING
    return Figures(found, _quartiles(ordered, k, step), float(step))


def _quartiles(ordered: NDArray[Any], k: int, step: Decimal) -> tuple[float, float, float] | None:
    """The lower one rounded down, the upper one up; none unless k rows lie in each quarter."""
    count = len(ordered)
    if count < 4 * k:
        return None
    lower, middle, upper = (float(ordered[place]) for place in (count // 4, count // 2, count - 1 - count // 4))
    nearest = (_exact(middle) / step).to_integral_value() * step
    return float(_down(lower, step)), float(nearest), float(_up(upper, step))


def _step(low: float, high: float, *, whole: bool) -> Decimal | None:
    """The smallest of 1, 2 and 5 times a power of ten, of which `_STEPS` reach from low to high."""
    span = high - low or max(abs(low), abs(high))
    least = span / _STEPS
    if not math.isfinite(span):
        return None
    if least <= 0:  # all values are 0
        return Decimal(1)
    power = math.floor(math.log10(least)) - 1
    series = (Decimal(mantissa).scaleb(power + more) for more in range(4) for mantissa in (1, 2, 5))
    step = next(one for one in series if float(one) >= least)
    return max(step, Decimal(1)) if whole else step


def _exact(value: float) -> Decimal:
    return Decimal(value)  # of a binary number exactly, so that rounding outward is outward


def _down(value: float, step: Decimal) -> Decimal:
    return Decimal(math.floor(_exact(value) / step)) * step


def _up(value: float, step: Decimal) -> Decimal:
    return Decimal(math.ceil(_exact(value) / step)) * step


def common_categories(counts: Mapping[str, int], k: int) -> list[str]:
    """The categories that k rows have, by the alphabet: neither how many, nor whether there are others.

    What is longer than a category may be, or not printable, is left out: it is text, not a category.
    """
    found = [name for name, count in counts.items() if count >= k and _is_category(name)]
    return sorted(found) if len(found) <= MAX_CATEGORIES else []


def _is_category(name: str) -> bool:
    return 0 < len(name) <= LONGEST_CATEGORY and name.isprintable()


def whole_categories(ordered: NDArray[Any], k: int) -> list[str]:
    """The same of a column of integers, from its values in ascending order."""
    values, counts = np.unique(np.asarray(ordered), return_counts=True)
    common = {str(int(value)): int(count) for value, count in zip(values, counts, strict=True) if count >= k}
    return sorted(common_categories(common, k), key=int)


def missing_band(rows: int, missing: int, k: int) -> MissingBand:
    """Roughly what share of the rows has no value. Fewer than k rows more or less do not show."""
    if missing < k or missing < _EDGE * rows:
        return "few"
    if rows - missing < k or rows - missing < _EDGE * rows:
        return "most"
    return next(band for limit, band in _BANDS if missing < limit * rows)
