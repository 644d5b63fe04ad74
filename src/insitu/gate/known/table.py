"""A dataset's numeric cells, prepared for looking values up.

For each column the values are kept sorted, with the rows that they came from:
"which rows have a value within this tolerance" is then two binary searches.
Missing cells (NaN) match nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_GRID_PER_VALUE = 12
_GRID_LEAST, _GRID_MOST = 1 << 12, 1 << 21
_GRID_FULL = 0.5


@dataclass(frozen=True)
class Grid:
    """A column's range in equal cells, and which of them hold a value or have a neighbour that does.

    One access to a table that the processor keeps at hand, where a binary search takes twenty to memory: it ends most
    hypotheses about a scaling, which are wrong.
    """

    cells: NDArray[np.bool_]
    low: float
    per_unit: float

    @staticmethod
    def of(distinct: Floats) -> Grid | None:
        extent = float(distinct[-1] - distinct[0]) if len(distinct) else 0.0
        if not 0 < extent < np.inf:
            return None
        size = min(_GRID_MOST, max(_GRID_LEAST, 1 << (_GRID_PER_VALUE * len(distinct)).bit_length()))
        grid = Grid(np.zeros(size + 3, dtype=bool), float(distinct[0]), size / extent)
        at = np.clip(grid.places(distinct), 1, size + 1)
        for near in (at - 1, at, at + 1):
            grid.cells[near] = True
        return grid if np.count_nonzero(grid.cells) < _GRID_FULL * len(grid.cells) else None

    def places(self, values: Floats) -> NDArray[np.int32]:
        """The cell of each value; the outermost ones for what lies outside."""
        return np.clip((values - self.low) * self.per_unit + 1.0, 0.0, len(self.cells) - 1.0).astype(np.int32)

    def may_hold(self, values: Floats) -> NDArray[np.bool_]:
        """Whether a known value may lie within a cell's width of each of `values`, which are finite."""
        return self.cells[self.places(values)]


@dataclass
class Column:
    ordered: Floats  # finite values, ascending
    rows: NDArray[np.integer[Any]]  # the row of each of them

    @cached_property
    def distinct(self) -> Floats:
        """Ascending, once each."""
        new = np.ones(len(self.ordered), dtype=bool)
        np.not_equal(self.ordered[1:], self.ordered[:-1], out=new[1:])
        return self.ordered[new]

    @cached_property
    def grid(self) -> Grid | None:
        """Where values are, roughly; None if they lie too densely to tell anything."""
        return Grid.of(self.distinct)


@dataclass(frozen=True)
class Windows:
    """For each looked-up value, the places `low:high` in a column's order that lie within the tolerance."""

    low: Ints
    high: Ints

    @property
    def counts(self) -> Ints:
        return self.high - self.low


class KnownTable:
    """The numeric part of one dataset version: `rows` by `width`. An index has each column's order ready."""

    def __init__(
        self, values: Floats, ordered: Sequence[tuple[Floats, NDArray[np.integer[Any]]]] | None = None
    ) -> None:
        self.values = values
        self.rows, self.width = values.shape
        in_order = ordered or [_in_order(np.asarray(values[:, j], dtype=np.float64)) for j in range(self.width)]
        self.columns = [Column(*column) for column in in_order]

    @property
    def cells_needed(self) -> int:
        """How many cells of one row make it recognisable: three, or all that a row has."""
        return max(1, min(3, self.width))

    def look_up(self, column: int, values: Floats, tolerance: Floats | float) -> Windows:
        ordered = self.columns[column].ordered
        # Both sides widen by a rounding error, so that an exact copy is never missed.
        slack = tolerance + np.abs(values) * 1e-14
        low = np.searchsorted(ordered, values - slack, side="left")
        high = np.searchsorted(ordered, values + slack, side="right")
        return Windows(low.astype(np.int64), np.maximum(low, high).astype(np.int64))

    def expand(self, column: int, windows: Windows) -> tuple[Ints, Ints]:
        """All (index of the looked-up value, row of the table) in the windows."""
        counts = windows.counts
        which = np.repeat(np.arange(len(counts)), counts)
        starts = np.repeat(windows.low - np.concatenate(([0], np.cumsum(counts)[:-1])), counts)
        return which, self.columns[column].rows[starts + np.arange(len(which))].astype(np.int64)


def _in_order(values: Floats) -> tuple[Floats, Ints]:
    finite = np.flatnonzero(np.isfinite(values))
    order = finite[np.argsort(values[finite], kind="stable")]
    return values[order], order.astype(np.int64)
