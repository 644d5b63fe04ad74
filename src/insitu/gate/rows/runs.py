"""Finds the dataset's rows in a stream of numbers whose layout nobody knows.

For lists, JSON, logs and raw bytes: eight numbers in a row of which six are
different cells of one and the same row of the dataset are that row, or a part
of it. (For narrower tables: three quarters of their width.) This sees exact
values only, but needs no table: the layouts of `rows/candidates.py` may all be
wrong, and a dozen rows in the middle of other numbers are found all the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from insitu.gate.effort import Effort
from insitu.gate.known.table import Floats, Ints, KnownTable
from insitu.gate.rows.evidence import NO_ROWS

_WINDOW = 8
_SHARE = 0.75
_COMMON = 32  # a value that more cells than this have says too little to be followed
_TRIVIAL = 16  # whole numbers up to here are everywhere: counts, labels, indices
_RELATIVE = 2.0**-22  # single precision
_BLOCK = 200_000


class KnownCells:
    """All cells of a table in one order, with the row and column of each."""

    def __init__(
        self, values: Floats, rows: NDArray[np.integer[Any]], columns: NDArray[np.integer[Any]], width: int
    ) -> None:
        self.values = values  # ascending
        self.rows = rows
        self.columns = columns
        self.window = min(_WINDOW, width)
        self.needed = int(np.ceil(_SHARE * self.window))
        self.usable = width >= 3

    @staticmethod
    def of(table: KnownTable) -> KnownCells:
        values = np.concatenate([column.ordered for column in table.columns] or [np.empty(0)])
        rows = np.concatenate([column.rows for column in table.columns] or [NO_ROWS])
        counts = np.array([len(column.ordered) for column in table.columns], dtype=np.int64)
        columns = np.repeat(np.arange(table.width, dtype=np.uint16), counts)
        order = np.argsort(values, kind="stable")
        return KnownCells(values[order], rows[order].astype(np.uint32), columns[order], table.width)


def rows_in_stream(cells: KnownCells, stream: NDArray[np.generic], effort: Effort) -> Ints:
    """The dataset's rows of which a run stands in `stream`."""
    if not cells.usable or not len(cells.values) or len(stream) < cells.needed:
        return NO_ROWS
    found: list[Ints] = []
    for start in range(0, len(stream), _BLOCK):
        effort.check_time()
        block = np.asarray(stream[start : start + _BLOCK + cells.window], dtype=np.float64)
        found.append(_rows_in_block(cells, block))
    return np.unique(np.concatenate(found))


def _rows_in_block(cells: KnownCells, stream: Floats) -> Ints:
    places, at = _hits(cells, stream)
    rows = cells.rows[at].astype(np.int64)
    columns = cells.columns[at].astype(np.int64)
    order = np.lexsort((columns, places, rows))
    rows, columns, places = rows[order], columns[order], places[order]
    # One hit per place and row: a value that a row has twice is seen once here.
    first = np.ones(len(rows), dtype=bool)
    first[1:] = (rows[1:] != rows[:-1]) | (places[1:] != places[:-1])
    rows, columns, places = rows[first], columns[first], places[first]
    last = cells.needed - 1
    if len(rows) <= last:
        return NO_ROWS
    together = (rows[last:] == rows[:-last]) & (places[last:] - places[:-last] < cells.window)
    starts = np.flatnonzero(together)
    runs = np.sort(columns[starts[:, None] + np.arange(cells.needed)], axis=1)
    different = 1 + np.count_nonzero(np.diff(runs, axis=1), axis=1)
    return np.unique(rows[starts[different >= cells.needed - 1]])


def _hits(cells: KnownCells, stream: Floats) -> tuple[Ints, Ints]:
    """(place in the stream, index of a cell) for each value that few cells have."""
    with np.errstate(invalid="ignore"):
        slack = np.abs(stream) * _RELATIVE
        low = np.searchsorted(cells.values, stream - slack, side="left")
        high, most = low.copy(), stream + slack
        # Where the next cell is too large none fits: most numbers, for which the second search would find the same place.
        fit = np.flatnonzero((low < len(cells.values)) & (cells.values.take(low, mode="clip") <= most))
        high[fit] = np.searchsorted(cells.values, most[fit], side="right")
        trivial = (np.abs(stream) <= _TRIVIAL) & (stream == np.rint(stream))
    counts = np.where(np.isfinite(stream) & ~trivial & (high - low <= _COMMON), np.maximum(high - low, 0), 0)
    places = np.repeat(np.arange(len(stream)), counts)
    starts = np.repeat(low - np.concatenate(([0], np.cumsum(counts)[:-1])), counts)
    return places, starts + np.arange(len(places))
