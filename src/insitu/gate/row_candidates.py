"""Lays found numbers out as tables that a dataset's rows could stand in.

Nothing tells us which axis of an array is "rows", or that a table was not
stored as one array per column, one per row, or as one long list. So each way
that is plausible for a table of the dataset's width is tried; a wrong one costs
time and finds nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from insitu.gate.contents import FoundNumbers, Numbers
from insitu.gate.known_table import Floats

_MAX_GROUP = 20_000  # arrays of one length taken as one table
_FINEST_DECIMALS = 6

# How exactly a stored float repeats the value that it stands for: a share of itself (rounding to the format), and a
# share of the column's largest value, since scaling subtracts numbers of similar size before it rounds.
_EXACT = (0.0, 1e-10)
_SINGLE = (2.0**-24, 2.0**-21)
_HALF = (2.0**-11, 2.0**-16)
_BRAIN = (2.0**-7, 2.0**-16)  # bfloat16 is often made by cutting bits off, not by rounding


@dataclass(frozen=True)
class Precision:
    """How far a stored value may lie from what it stands for: a share of itself, and a fixed part."""

    relative: float
    absolute: float

    def of(self, values: Floats) -> Floats:
        return np.abs(values) * self.relative + self.absolute


@dataclass(frozen=True)
class Candidate:
    """A table of values, rows by columns, that may hold the dataset's rows."""

    where: str
    values: Floats

    @cached_property
    def precisions(self) -> list[Precision]:
        """One for each column, in the column's own unit."""
        return [_precision(self.values[:, a]) for a in range(self.values.shape[1])]


def layouts(item: FoundNumbers, width: int) -> Iterator[Candidate]:
    """Every way in which one array may be a table of `width` numeric columns, or a part of one."""
    values, where = item.values, item.describe()
    if values.ndim == 1:
        if not item.raw and len(values) <= 4 * width:
            yield _make(where, values.reshape(1, -1))
        yield from _folded(where, values, width)
    elif values.ndim == 2:
        yield _make(where, values)
        if values.shape[0] > 1:
            yield _make(where, values.T)
    elif values.ndim > 2:
        yield _make(where, values.reshape(-1, values.shape[-1]))
        yield _make(where, values.reshape(values.shape[0], -1))
        yield _make(where, values.reshape(values.shape[0], -1).T)
    if values.ndim >= 2 and values.shape[-1] not in (width - 1, width, width + 1):
        yield from _folded(where, values.reshape(-1), width)


def joined(found: list[FoundNumbers]) -> Iterator[Candidate]:
    """Tables whose columns, or whose rows, stand in several arrays of one length."""
    by_length: dict[int, list[FoundNumbers]] = defaultdict(list)
    for item in found:
        if item.values.ndim not in (1, 2):
            continue
        for length in sorted(set(item.values.shape)):  # a block of columns may have its neighbours elsewhere
            by_length[length].append(item)
    for length, group in by_length.items():
        if len(group) >= 2 and length >= 2:
            yield from _of_many(group[:_MAX_GROUP], length)


def _folded(where: str, flat: Numbers, width: int) -> Iterator[Candidate]:
    """A long list as rows of the dataset's width, one less or one more (a label), by rows and by columns."""
    for columns in sorted({width, width - 1, width + 1}):
        rows = len(flat) // columns if columns >= 2 else 0
        if rows < 2:
            continue
        size = rows * columns
        yield _make(where, flat[:size].reshape(rows, columns))
        if size < len(flat):  # something stands before the table, or behind it
            yield _make(where, flat[len(flat) - size :].reshape(rows, columns))
        yield _make(where, flat[:size].reshape(columns, rows).T)


def _of_many(group: list[FoundNumbers], length: int) -> Iterator[Candidate]:
    parts: list[Numbers] = []
    for item in group:
        if item.values.ndim == 1:
            parts.append(item.values.reshape(1, -1))
        else:
            parts.append(item.values if item.values.shape[1] == length else item.values.T)
    stacked = np.concatenate([part.astype(np.float64) for part in parts])
    where = f"{group[0].where} and {len(group) - 1} more arrays of length {length}"
    yield _make(where, stacked)  # one array per row
    yield _make(where, stacked.T)  # one array per column


def _make(where: str, values: Numbers) -> Candidate:
    with np.errstate(all="ignore"):
        floats = np.ascontiguousarray(values, dtype=np.float64)
    return Candidate(where, np.where(np.isfinite(floats), floats, np.nan))


def _precision(values: Floats) -> Precision:
    finite = values[np.isfinite(values)]
    largest = float(np.max(np.abs(finite))) if len(finite) else 0.0
    if largest == 0.0:
        return Precision(0.0, 0.0)
    relative, floor = _format_of(finite)
    step = _decimal_step(finite, largest)
    if step == 1.0:  # whole numbers are exact in every format: counts, codes, labels, indices
        return Precision(0.0, 1e-9 * largest)
    return Precision(relative, max(floor * largest, step / 2))


def _format_of(values: Floats) -> tuple[float, float]:
    """The narrowest float format that holds all of `values` exactly."""
    with np.errstate(all="ignore"):
        single = values.astype(np.float32)
        if not np.array_equal(single, values):
            return _EXACT
        if np.array_equal(values.astype(np.float16), values):
            return _HALF
    return _SINGLE if np.any(single.view(np.uint32) & 0xFFFF) else _BRAIN


def _decimal_step(values: Floats, largest: float) -> float:
    """The step between neighbours if all of `values` are decimals of few digits (rounded before storing)."""
    for decimals in range(_FINEST_DECIMALS + 1):
        scaled = values * 10.0**decimals
        if largest * 10.0**decimals > 2.0**50:
            break
        if np.max(np.abs(scaled - np.rint(scaled))) < 1e-6:
            return 10.0**-decimals
    return 0.0
