"""Pairs two values of a candidate column with values of a dataset column, and tells which pairings can be a map.

A pairing fixes a scale and a shift; other values of the column, the *probes*,
confirm or end it. Nearly all pairings are wrong, so the first probes decide
cheaply: in units of a grid over the dataset column, where a probe falls is a sum
of one number for each value at either end, and a table of the cells in which
known values lie says whether it may stay. What is left is compared exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from insitu.gate.known.table import Column, Floats, Grid
from insitu.gate.rows.candidates import Precision

SURVIVORS = 3
_PROBES = 64
_STRICT = 3  # probes that must all fit
_CHUNK = 1 << 15  # hypotheses at a time: they stay in the processor's cache
_GRID_SLACK = 0.9  # of a cell: what float32 adds to it stays below a cell
_WIDEST = 64  # cells to either side: a grid whose cells nearly all hold a value tells nothing
_SINGLE_CELLS = 1 << 18  # of a grid in which float32 finds the cell

Flags = NDArray[np.bool_]
Places = NDArray[np.intp]
Line = tuple[float, float]
"""Scale and shift."""


@dataclass(frozen=True)
class Probed:
    """Two values of a candidate column, and further ones that lie anywhere beside or between them."""

    ends: tuple[float, float]
    probes: Floats
    tolerances: Floats  # of each probe, in the candidate column's unit
    shares: Floats  # the same, of the column's whole extent

    @staticmethod
    def of(values: Floats, first: int, last: int, precision: Precision) -> Probed:
        """For a column's distinct values in ascending order, and the places of two of them."""
        inner = np.delete(values, [first, last])
        probes = inner[np.unique(np.linspace(0, len(inner) - 1, _PROBES).astype(np.int64))]
        # The order in which they are asked is mixed, so that the first few lie far apart.
        probes = probes[np.argsort((np.arange(len(probes)) * 37 + 11) % 101, kind="stable")]
        tolerances = precision.scaled(probes) + float(precision.scaled(values[[first, last]]).max())
        return Probed(
            (float(values[first]), float(values[last])), probes, tolerances, tolerances / (values[-1] - values[0])
        )


def fitting_lines(probed: Probed, column: Column, low: slice, high: slice) -> list[Line]:
    """The lines that send the two ends to values of a dataset column, and nearly all probes as well.

    Args:
        low, high: the column's distinct values that the first and the last end may stand for; under a negative
            scale the other way round.
    """
    known, span = column.distinct, probed.ends[1] - probed.ends[0]
    pairings = 2 * (low.stop - low.start) * (high.stop - high.start)
    needed = _needed(probed.shares, len(known), pairings)
    if needed > len(probed.probes) or not np.isfinite(span):
        return []  # so coarse that a fit would say nothing
    found: list[tuple[float, float, float]] = []
    for first, last, sign in ((known[low], known[high], 1), (known[high], known[low], -1)):
        near = _near(column.grid, probed, abs(float(max(last[-1] - first[0], first[-1] - last[0])) / span))
        for at_first, at_last in _likely(first, last, near, probed):
            scales = (at_last - at_first) / span
            turned = scales * sign > 0
            scales, at_first = scales[turned], at_first[turned]  # noqa: PLW2901 - the rest means those that are left
            found += _confirmed(known, probed, scales, at_first - scales * probed.ends[0], needed)
    found.sort(reverse=True)
    return [(scale, shift) for _, scale, shift in found[:SURVIVORS]]


def _needed(shares: Floats, known: int, pairings: int) -> float:
    """How many probes must fit before chance would hardly have let one of all pairings through."""
    by_chance = min(1.0, 4.0 * float(shares.mean()) * known)  # twice as dense as if spread evenly
    if by_chance >= 0.9:
        return np.inf
    return float(np.log(100.0 * pairings) / -np.log(max(by_chance, 1e-6)))


@dataclass(frozen=True)
class _Near:
    """A grid whose cells say whether a known value lies within the probes' tolerance of them."""

    grid: Grid
    cells: Flags


def _near(grid: Grid | None, probed: Probed, scale: float) -> _Near | None:
    """None if the grid can't tell: no column of few values, or too coarse a candidate."""
    if grid is None:
        return None
    reach = scale * float(probed.tolerances[:_STRICT].max()) * grid.per_unit
    if reach <= _GRID_SLACK:
        return _Near(grid, grid.cells)
    if not reach < _WIDEST:
        return None
    more = int(np.ceil(reach + 1 - _GRID_SLACK)) - 1
    total = np.concatenate((np.zeros(more + 1, dtype=np.int32), np.cumsum(grid.cells, dtype=np.int32)))
    total = np.concatenate((total, np.full(more, total[-1])))
    return _Near(grid, total[2 * more + 1 :] > total[: len(grid.cells)])


def _likely(first: Floats, last: Floats, near: _Near | None, probed: Probed) -> Iterator[tuple[Floats, Floats]]:
    """Pairs of values, a block at a time, under which the first probes fall near known values."""
    step = max(1, _CHUNK // len(last))
    if near is None:
        for start in range(0, len(first), step):
            part = first[start : start + step]
            yield np.repeat(part, len(last)), np.tile(last, len(part))
        return
    shares = (probed.probes[:_STRICT] - probed.ends[0]) / (probed.ends[1] - probed.ends[0])
    outside = bool((shares < 0).any() or (shares > 1).any())
    exact = np.float32 if len(near.cells) <= _SINGLE_CELLS else np.float64
    grid = near.grid
    from_first = [((((first - grid.low) * grid.per_unit) + 1.0) * (1.0 - share)).astype(exact) for share in shares]
    from_last = [((((last - grid.low) * grid.per_unit) + 1.0) * share).astype(exact) for share in shares]
    for start in range(0, len(first), step):
        places = from_first[0][start : start + step, None] + from_last[0]
        stay = np.flatnonzero(near.cells[_cells(places.reshape(-1), near, outside=outside)])
        at_first, at_last = stay // len(last) + start, stay % len(last)
        for one, other in zip(from_first[1:], from_last[1:], strict=True):
            fits = near.cells[_cells(one[at_first] + other[at_last], near, outside=outside)]
            at_first, at_last = at_first[fits], at_last[fits]
        if len(at_first):
            yield first[at_first], last[at_last]


def _cells(places: NDArray[np.floating], near: _Near, *, outside: bool) -> NDArray[np.int32]:
    if outside:
        places = np.clip(places, 0, len(near.cells) - 1)
    return places.astype(np.int32)


def _confirmed(
    known: Floats, probed: Probed, scales: Floats, shifts: Floats, needed: float
) -> list[tuple[float, float, float]]:
    """(share of probes that are values of the column, scale, shift) of the lines that stand."""
    slack = 1e-12 * float(max(abs(known[0]), abs(known[-1])))
    passed = np.zeros(len(scales), dtype=np.int64)
    for number, (probe, tolerance) in enumerate(zip(probed.probes, probed.tolerances, strict=True), start=1):
        if not len(scales):
            return []
        expected = scales * probe + shifts
        at = np.minimum(np.maximum(np.searchsorted(known, expected), 1), len(known) - 1)
        distance = np.minimum(np.abs(known[at] - expected), np.abs(known[at - 1] - expected))
        passed = passed + (distance <= tolerance * np.abs(scales) + slack)
        stay = passed >= (number if number <= _STRICT else _STRICT + 0.6 * (number - _STRICT) - 1)
        scales, shifts, passed = scales[stay], shifts[stay], passed[stay]
    best = [i for i in np.argsort(-passed, kind="stable")[:SURVIVORS] if passed[i] >= needed]
    return [(float(passed[i]) / len(probed.probes), float(scales[i]), float(shifts[i])) for i in best]
