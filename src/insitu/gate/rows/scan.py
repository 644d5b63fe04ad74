"""The scan: how many of the dataset's rows stand in what a job wrote.

    numbers ─► layouts ─► columns as they are ──────────► rows
                      └─► columns scaled and shifted ──► rows
           └─► streams ─► runs of one row's cells ──────► rows

In any order, any subset, by rows or by columns, in one array or in many, in
double, single or half precision, and under an affine map per column. The count
is of *distinct rows of the dataset*, so it reads "426 of the dataset's 569 rows".

It is deterministic. When time or another bound runs out it raises, and the
caller holds what was not checked. What it can't see is said in `rows/maps.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from insitu.gate.contents import FoundNumbers
from insitu.gate.effort import Effort
from insitu.gate.known.table import Ints, KnownTable
from insitu.gate.rows.candidates import Candidate, folded, joined, layouts
from insitu.gate.rows.codes import maps_of_codes
from insitu.gate.rows.evidence import NO_ROWS, ColumnMap, rows_by_maps
from insitu.gate.rows.lattices import VotePurse, maps_of_lattices
from insitu.gate.rows.maps import LEAST_SCALED_ROWS, SearchPurse, affine_maps, maps_as_they_are
from insitu.gate.rows.matching import matched_maps
from insitu.gate.rows.runs import KnownCells, rows_in_stream


@dataclass(frozen=True)
class RowsFound:
    """Which rows were found (at the site only), and in which places."""

    rows: Ints
    places: tuple[str, ...]  # the one with most rows first
    affine: bool = False  # some only after undoing a map per column
    complete: bool = True  # False: the search for scaled copies ended before every pairing was tried

    @property
    def count(self) -> int:
        return len(self.rows)


class RowScan:
    """Scans against one dataset. Preparing costs a sort per column; keep it for several scans."""

    def __init__(
        self, table: KnownTable, cells: KnownCells | None = None, *, undo_maps: bool = True, read_streams: bool = True
    ) -> None:
        self.table = table
        self._undo_maps = undo_maps
        self._votes = VotePurse()
        self._cells = (cells or KnownCells.of(table)) if read_streams and table.width else None

    def find(self, found: list[FoundNumbers], effort: Effort) -> RowsFound:
        """All rows of the dataset that stand in `found`.

        Raises:
            OutOfEffortError: a bound was reached; nothing is known about the rest.
        """
        if not self.table.width or not self.table.rows:
            return RowsFound(NO_ROWS, ())
        with np.errstate(all="ignore"):  # what a job wrote may hold any bit pattern
            return self._find(found, effort)

    def _find(self, found: list[FoundNumbers], effort: Effort) -> RowsFound:
        purse = SearchPurse(self.table.rows)
        self._votes = VotePurse()
        seen = _Seen()
        unexplained = [item for item in found if not self._in_shape(item, purse, effort, seen)]
        raw = [item for item in unexplained if item.raw]
        unexplained = [item for item in unexplained if not item.raw]
        in_groups: set[int] = set()
        for group, candidate in joined(unexplained, self.table.width):
            if self._in_candidate(candidate, purse, effort, seen):
                in_groups |= {id(item) for item in group}
        for item in unexplained:
            if id(item) not in in_groups:
                self._in_folds(item, purse, effort, seen)
        explained: set[str] = set()
        for item in raw:  # the same bytes as other widths and alignments: one reading is right, if any
            if item.where not in explained and self._in_folds(item, purse, effort, seen):
                explained.add(item.where)
        return replace(seen.result(), complete=purse.complete)

    def _in_folds(self, item: FoundNumbers, purse: SearchPurse, effort: Effort, seen: _Seen) -> bool:
        return any(self._in_candidate(candidate, purse, effort, seen) for candidate in folded(item, self.table.width))

    def _in_shape(self, item: FoundNumbers, purse: SearchPurse, effort: Effort, seen: _Seen) -> bool:
        """Look at one array as it is shaped: as a table, and as a stream of numbers."""
        seen.add(item.describe(), self._in_stream(item, effort))
        return any(self._in_candidate(candidate, purse, effort, seen) for candidate in layouts(item, self.table.width))

    def _in_candidate(self, candidate: Candidate, purse: SearchPurse, effort: Effort, seen: _Seen) -> bool:
        effort.check_time()
        rows = rows_by_maps(self.table, candidate, maps_as_they_are(self.table, candidate), effort)
        if len(rows) or not self._undo_maps:
            return seen.add(candidate.where, rows)
        for maps in affine_maps(self.table, candidate, purse, effort):
            rows = rows_by_maps(self.table, candidate, maps, effort)
            if len(rows) >= LEAST_SCALED_ROWS:
                return seen.add(candidate.where, rows, affine=True)
        for maps in self._other_maps(candidate, purse, effort):
            rows = rows_by_maps(self.table, candidate, maps, effort) if maps else NO_ROWS
            if len(rows) >= LEAST_SCALED_ROWS:
                return seen.add(candidate.where, rows, affine=True)
        return False

    def _other_maps(self, candidate: Candidate, purse: SearchPurse, effort: Effort) -> Iterator[list[ColumnMap]]:
        """What finds maps where no single column tells them, one after the other."""
        yield maps_of_codes(self.table, candidate, effort)
        yield maps_of_lattices(self.table, candidate, self._votes, effort)
        yield matched_maps(self.table, candidate, purse)

    def _in_stream(self, item: FoundNumbers, effort: Effort) -> Ints:
        if self._cells is None:
            return NO_ROWS
        seen = rows_in_stream(self._cells, item.values.reshape(-1), effort)
        if item.values.ndim == 2 and min(item.values.shape) > 1:
            seen = np.union1d(seen, rows_in_stream(self._cells, item.values.T.reshape(-1), effort))
        return seen


class _Seen:
    """Collects the rows found so far, and where."""

    def __init__(self) -> None:
        self._rows: list[Ints] = [NO_ROWS]
        self._places: list[tuple[int, str]] = []
        self._affine = False

    def add(self, where: str, rows: Ints, *, affine: bool = False) -> bool:
        if not len(rows):
            return False
        self._rows.append(rows)
        self._places.append((len(rows), where))
        self._affine = self._affine or affine
        return True

    def result(self) -> RowsFound:
        places = [where for _, where in sorted(self._places, key=lambda place: -place[0])]
        return RowsFound(np.unique(np.concatenate(self._rows)), tuple(dict.fromkeys(places)), self._affine)
