"""The scan: how many of the dataset's rows stand in what a job wrote.

    numbers ─► layouts ─► columns as they are ──────────► rows
                      └─► columns scaled and shifted ──► rows
           └─► streams ─► runs of one row's cells ──────► rows

In any order, any subset, by rows or by columns, in one array or in many, in
double, single or half precision, and under an affine map per column. The count
is of *distinct rows of the dataset*, so it reads "426 of the dataset's 569 rows".

It is deterministic. When time or another bound runs out it raises, and the
caller holds what was not checked. What it can't see is said in `row_maps.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from insitu.gate.contents import FoundNumbers
from insitu.gate.effort import Effort
from insitu.gate.known_table import Ints, KnownTable
from insitu.gate.row_candidates import Candidate, joined, layouts
from insitu.gate.row_evidence import NO_ROWS, rows_by_maps
from insitu.gate.row_maps import affine_maps, maps_as_they_are
from insitu.gate.row_runs import KnownCells, rows_in_stream


@dataclass(frozen=True)
class RowsFound:
    """Which rows were found (at the site only), and in which places."""

    rows: Ints
    places: tuple[str, ...]
    affine: bool = False  # some only after undoing a map per column

    @property
    def count(self) -> int:
        return len(self.rows)


class RowScan:
    """Scans against one dataset. Preparing costs a sort per column; keep it for several scans."""

    def __init__(self, table: KnownTable, *, undo_maps: bool = True, read_streams: bool = True) -> None:
        self.table = table
        self._undo_maps = undo_maps
        self._cells = KnownCells(table) if read_streams and table.width else None

    def find(self, found: list[FoundNumbers], effort: Effort) -> RowsFound:
        """All rows of the dataset that stand in `found`.

        Raises:
            OutOfEffortError: a bound was reached; nothing is known about the rest.
        """
        if not self.table.width or not self.table.rows:
            return RowsFound(NO_ROWS, ())
        rows: list[Ints] = []
        places: list[str] = []
        affine = False
        unexplained: list[FoundNumbers] = []
        for item in found:
            seen, by_map = self._in_array(item, effort)
            if len(seen):
                rows.append(seen)
                places.append(item.describe())
                affine = affine or by_map
            else:
                unexplained.append(item)
        for candidate in joined(unexplained):
            seen, by_map = self._in_candidate(candidate, effort)
            if len(seen):
                rows.append(seen)
                places.append(candidate.where)
                affine = affine or by_map
        every = np.unique(np.concatenate(rows)) if rows else NO_ROWS
        return RowsFound(every, tuple(dict.fromkeys(places)), affine)

    def _in_array(self, item: FoundNumbers, effort: Effort) -> tuple[Ints, bool]:
        """The rows of the first layout that holds any, and those of runs in the array as a stream."""
        runs = self._in_stream(item, effort)
        for candidate in layouts(item, self.table.width):
            effort.check_time()
            seen, by_map = self._in_candidate(candidate, effort)
            if len(seen):
                return np.union1d(seen, runs), by_map
        return runs, False

    def _in_candidate(self, candidate: Candidate, effort: Effort) -> tuple[Ints, bool]:
        seen = rows_by_maps(self.table, candidate, maps_as_they_are(self.table, candidate), effort)
        if len(seen) or not self._undo_maps:
            return seen, False
        for maps in affine_maps(self.table, candidate, effort):
            seen = rows_by_maps(self.table, candidate, maps, effort)
            if len(seen):
                return seen, True
        return NO_ROWS, False

    def _in_stream(self, item: FoundNumbers, effort: Effort) -> Ints:
        if self._cells is None:
            return NO_ROWS
        seen = rows_in_stream(self._cells, item.values.reshape(-1), effort)
        if item.values.ndim == 2 and min(item.values.shape) > 1:
            seen = np.union1d(seen, rows_in_stream(self._cells, item.values.T.reshape(-1), effort))
        return seen
