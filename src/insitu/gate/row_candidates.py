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

# How exactly a stored float repeats a value that it was computed from: a few units in the last place, since
# scaling subtracts numbers of similar size. Half precision keeps 11 bits, bfloat16 8.
_EXACT = 1e-10
_SINGLE = 2.0**-21
_HALF = 2.0**-10
_BRAIN = 2.0**-7


@dataclass(frozen=True)
class Candidate:
    """A table of values, rows by columns, that may hold the dataset's rows."""

    where: str
    values: Floats

    @cached_property
    def tolerances(self) -> Floats:
        """For each column, how far a value may lie from what it stands for, in the column's own unit."""
        return np.array([_tolerance(self.values[:, a]) for a in range(self.values.shape[1])])


def candidates(found: list[FoundNumbers], width: int) -> Iterator[Candidate]:
    """Every layout to try, for a dataset of `width` numeric columns."""
    by_length: dict[int, list[FoundNumbers]] = defaultdict(list)
    for item in found:
        if item.values.ndim == 1:
            by_length[len(item.values)].append(item)
        yield from _of_one(item, width)
        if item.values.ndim == 2:  # a block of columns may have its neighbours in other arrays
            by_length[item.values.shape[0]].append(item)
            if item.values.shape[1] != item.values.shape[0]:
                by_length[item.values.shape[1]].append(item)
    for length, group in by_length.items():
        if 2 <= len(group) and length >= 2:
            yield from _of_many(group[:_MAX_GROUP], length)


def _of_one(item: FoundNumbers, width: int) -> Iterator[Candidate]:
    values, where = item.values, item.describe()
    if values.ndim == 0:
        return
    if values.ndim == 1:
        if not item.raw and len(values) <= 4 * width:
            yield _make(where, values.reshape(1, -1))
        yield from _folded(where, values, width)
    elif values.ndim == 2:
        yield _make(where, values)
        if values.shape[0] > 1:
            yield _make(where, values.T)
    else:
        yield _make(where, values.reshape(-1, values.shape[-1]))
        yield _make(where, values.reshape(values.shape[0], -1))
        yield _make(where, values.reshape(values.shape[0], -1).T)
    if values.ndim >= 2 and values.shape[-1] not in (width - 1, width, width + 1):
        yield from _folded(where, values.reshape(-1), width)


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


def _tolerance(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    largest = float(np.max(np.abs(finite))) if len(finite) else 0.0
    if largest == 0.0:
        return 0.0
    return max(_width_of(finite) * largest, _decimal_step(finite, largest) / 2)


def _width_of(values: Floats) -> float:
    """The relative error of the narrowest float format that holds all of `values` exactly."""
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
