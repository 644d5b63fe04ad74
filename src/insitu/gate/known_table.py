"""A dataset's numeric cells, prepared for looking values up.

For each column the values are kept sorted, with the rows that they came from:
"which rows have a value within this tolerance" is then two binary searches.
Missing cells (NaN) match nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Column:
    ordered: Floats  # finite values, ascending
    rows: Ints  # the row of each of them
    distinct: Floats  # ascending, once each


@dataclass(frozen=True)
class Windows:
    """For each looked-up value, the places `low:high` in a column's order that lie within the tolerance."""

    low: Ints
    high: Ints

    @property
    def counts(self) -> Ints:
        return self.high - self.low


class KnownTable:
    """The numeric part of one dataset version: `rows` by `width`."""

    def __init__(self, values: Floats) -> None:
        self.values = values
        self.rows, self.width = values.shape
        self.columns = [_prepare(np.asarray(values[:, j], dtype=np.float64)) for j in range(self.width)]

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
        return which, self.columns[column].rows[starts + np.arange(len(which))]


def _prepare(values: Floats) -> Column:
    finite = np.flatnonzero(np.isfinite(values))
    order = finite[np.argsort(values[finite], kind="stable")]
    ordered = values[order]
    return Column(ordered, order.astype(np.int64), np.unique(ordered))
