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
from insitu.gate.known.table import Floats

_MAX_GROUP = 20_000  # arrays of one length taken as one table
_FINEST_DECIMALS = 6
_FEW = 256

# How exactly a stored float repeats the value that it stands for: a share of itself (rounding to the format), and,
# after scaling, a share of the column's largest value, since scaling subtracts numbers of similar size and rounds.
_DOUBLE = (1e-12, 1e-10)
_SINGLE = (2.0**-24, 2.0**-21)
_HALF = (2.0**-11, 2.0**-16)
_BRAIN = (2.0**-7, 2.0**-16)  # bfloat16 is often made by cutting bits off, not by rounding


@dataclass(frozen=True)
class Precision:
    """How far a column's stored values may lie from what they stand for, in the column's own unit."""

    relative: float = 0.0  # rounding to the float format
    step: float = 0.0  # rounding to so many decimals
    floor: float = 0.0  # what scaling may have added

    def copied(self, values: Floats) -> Floats:
        """For values that were stored as they were."""
        return np.abs(values) * self.relative + self.step / 2

    def scaled(self, values: Floats) -> Floats:
        """For values that were scaled and shifted first."""
        return self.copied(values) + self.floor


@dataclass(frozen=True)
class Candidate:
    """A table of values, rows by columns, that may hold the dataset's rows."""

    where: str
    values: Floats
    guessed: bool = False  # the layout is a guess at where rows begin: not worth a long search

    @cached_property
    def precisions(self) -> list[Precision]:
        """One for each column, in the column's own unit."""
        return [_precision(self.values[:, a]) for a in range(self.values.shape[1])]


def layouts(item: FoundNumbers, width: int) -> Iterator[Candidate]:
    """Every way in which one array, as it is shaped, may be a table."""
    values, where = item.values, item.describe()
    if values.ndim == 1 and not item.raw and len(values) <= 4 * width:
        yield _make(where, values.reshape(1, -1))
    elif values.ndim == 2:
        for table in (values, values.T):
            if table.shape[1] <= _widest(width) and (table is values or values.shape[0] > 1):
                yield _make(where, table)
    elif values.ndim > 2:
        yield _make(where, values.reshape(-1, values.shape[-1]))
        yield _make(where, values.reshape(values.shape[0], -1))
        yield _make(where, values.reshape(values.shape[0], -1).T)


def _widest(width: int) -> int:
    """More columns than this is no table of the dataset's rows, but one that lies on its side."""
    return 8 * width + 512


def folded(item: FoundNumbers, width: int) -> Iterator[Candidate]:
    """The array as one long list, cut into rows of `width` numeric columns, one less or one more."""
    if item.values.ndim and item.values.shape[-1] not in (width - 1, width, width + 1):
        yield from _folded(item.describe(), item.values.reshape(-1), width)


def joined(found: list[FoundNumbers], width: int) -> Iterator[tuple[list[FoundNumbers], Candidate]]:
    """Tables whose columns, or whose rows, stand in several arrays of one length; with those arrays."""
    by_length: dict[int, list[FoundNumbers]] = defaultdict(list)
    for item in found:
        if item.values.ndim not in (1, 2):
            continue
        for length in sorted(set(item.values.shape)):  # a block of columns may have its neighbours elsewhere
            by_length[length].append(item)
    for length, group in by_length.items():
        if len(group) >= 2 and length >= 2:
            group = group[:_MAX_GROUP]  # noqa: PLW2901 - the rest of the loop means the bounded one
            for candidate in _of_many(group, length, width):
                yield group, candidate


def _folded(where: str, flat: Numbers, width: int) -> Iterator[Candidate]:
    """A long list as rows of the dataset's width, one less or one more (a label), by rows and by columns."""
    for columns in sorted({width, width - 1, width + 1}):
        rows = len(flat) // columns if columns >= 2 else 0
        if rows < 2:
            continue
        size = rows * columns
        yield _make(where, flat[:size].reshape(rows, columns), guessed=True)
        if size < len(flat):  # something stands before the table, or behind it
            yield _make(where, flat[len(flat) - size :].reshape(rows, columns), guessed=True)
        yield _make(where, flat[:size].reshape(columns, rows).T, guessed=True)


def _of_many(group: list[FoundNumbers], length: int, width: int) -> Iterator[Candidate]:
    parts: list[Numbers] = []
    for item in group:
        if item.values.ndim == 1:
            parts.append(item.values.reshape(1, -1))
        else:
            parts.append(item.values if item.values.shape[1] == length else item.values.T)
    if min(length, sum(map(len, parts))) > _widest(width):
        return
    stacked = np.concatenate([part.astype(np.float64) for part in parts])
    narrow = [table for table in (stacked, stacked.T) if table.shape[1] <= _widest(width)]
    where = f"{group[0].where} and {len(group) - 1} more arrays of length {length}"
    for table in narrow:  # one array per row; one array per column
        yield _make(where, table)


def _make(where: str, values: Numbers, *, guessed: bool = False) -> Candidate:
    with np.errstate(all="ignore"):
        floats = np.ascontiguousarray(values, dtype=np.float64)
    return Candidate(where, np.where(np.isfinite(floats), floats, np.nan), guessed)


def _precision(values: Floats) -> Precision:
    finite = values[np.isfinite(values)]
    largest = float(np.max(np.abs(finite))) if len(finite) else 0.0
    if largest == 0.0:
        return Precision()
    relative, floor = _format_of(finite)
    step = _decimal_step(finite, largest)
    if step == 1.0:  # whole numbers are exact in every format: counts, codes, labels, indices
        return Precision(floor=1e-9 * largest)
    return Precision(relative, step, floor * largest)


def _format_of(values: Floats) -> tuple[float, float]:
    """The narrowest float format that holds all of `values` exactly."""
    with np.errstate(all="ignore"):
        single = values.astype(np.float32)
        if not np.array_equal(single, values):
            return _DOUBLE
        if not np.any(single.view(np.uint32) & 0xFFFF):
            return _BRAIN  # asked first: in the range of half precision these are half precision too
        return _HALF if np.array_equal(values.astype(np.float16), values) else _SINGLE


def _decimal_step(values: Floats, largest: float) -> float:
    """The step between neighbours if all of `values` are decimals of few digits (rounded before storing)."""
    for decimals in range(_FINEST_DECIMALS + 1):
        if largest * 10.0**decimals > 2.0**50:
            break
        # A few tell of most columns that they are none.
        if _are_decimals(values[:_FEW], decimals) and _are_decimals(values, decimals):
            return 10.0**-decimals
    return 0.0


def _are_decimals(values: Floats, decimals: int) -> bool:
    scaled = values * 10.0**decimals
    return bool(np.max(np.abs(scaled - np.rint(scaled))) < 1e-6)
