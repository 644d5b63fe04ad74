"""Undoes scalings of columns with few distinct values: ages, codes, counts.

One such column says nothing about rows: dozens share each value, and a run of
whole numbers fits another one at many shifts. Two columns together do: pairs
of values that occur in the dataset are few among those that could. So each
column gets its handful of possible maps (`rows/maps.py` would call them seeds),
two columns are joined by the pair of maps under which the most candidate rows
have a pair of values that occurs in the dataset, and the other columns follow
one by one, each by the map that keeps the most rows.

Columns are taken to stand in the dataset's order, or, where the two most
telling ones fit better elsewhere, there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from insitu.gate.effort import Effort
from insitu.gate.known.table import Floats, Ints, KnownTable
from insitu.gate.rows.candidates import Candidate, Precision
from insitu.gate.rows.evidence import ColumnMap

_MOST_VALUES = 512  # a column with more is `rows/maps.py`'s
_ROWS_PER_VALUE = 3  # on average; where fewer rows share a value, single columns tell enough
_LEAST_ROWS = 12
_SAMPLE = 400
_REACH = 8
_MAPS = 24  # for each pair of columns
_FIRST_VALUES = 6
_JOINS = 20_000
_FITTING = 0.9


@dataclass(frozen=True)
class _Coded:
    """A candidate column under one map: the place of each value among the dataset column's distinct ones."""

    found: ColumnMap
    codes: Ints  # -1: no value of the column


class _Maps:
    """The possible maps of each pair of columns, found once."""

    def __init__(self, table: KnownTable, candidate: Candidate) -> None:
        self.table, self.candidate = table, candidate
        values = candidate.values
        self.sample = values[np.unique(np.linspace(0, len(values) - 1, _SAMPLE).astype(np.int64))]
        self.distinct = [np.unique(column[np.isfinite(column)]) for column in values.T]
        most = min(_MOST_VALUES, table.rows // _ROWS_PER_VALUE)
        few = [at for at in range(table.width) if 2 <= len(table.columns[at].distinct) <= most]
        self.known = {at: _codes_of(table, at) for at in few}
        few = [at for at, distinct in enumerate(self.distinct) if 2 <= len(distinct) <= _MOST_VALUES]
        self.sources = sorted(few, key=lambda at: (-len(self.distinct[at]), at))
        self._found: dict[tuple[int, int], list[_Coded]] = {}

    def of(self, source: int, target: int) -> list[_Coded]:
        """Maps that send every value of a candidate column to some value of the dataset's column."""
        if (source, target) not in self._found:
            lines = _possible(self.table, self.candidate.precisions[source], self.distinct[source], target)
            self._found[source, target] = [
                _Coded(
                    ColumnMap(source, target, scale, shift, slack),
                    _codes(self.table.columns[target].distinct, self.sample[:, source] * scale + shift, slack),
                )
                for scale, shift, slack in lines
            ]
        return self._found[source, target]


def maps_of_codes(table: KnownTable, candidate: Candidate, effort: Effort) -> list[ColumnMap]:
    """Maps of the columns with few distinct values, if they fit together; else none."""
    if candidate.guessed or len(candidate.values) < _LEAST_ROWS or min(candidate.values.shape[1], table.width) < 2:
        return []
    maps = _Maps(table, candidate)
    if min(len(maps.known), len(maps.sources)) < 2:
        return []
    start = _best_pair(maps, effort)
    return _extend(maps, start, effort) if start else []


def _best_pair(maps: _Maps, effort: Effort) -> list[_Coded]:
    """The two columns and maps under which the most rows have a pair of values that the dataset has."""
    first, second = maps.sources[:2]
    firsts = [target for target in maps.known if maps.of(first, target)]
    seconds = [target for target in maps.known if maps.of(second, target)]
    pairs = [(i, j) for i in firsts for j in seconds if i != j]
    joins = 0
    for i, j in sorted(pairs, key=lambda pair: pair != (first, second)):
        effort.check_time()
        best = _best_join(maps, maps.of(first, i), maps.of(second, j))
        joins += len(maps.of(first, i)) * len(maps.of(second, j))
        if best or joins > _JOINS:
            return best
    return []


def _best_join(maps: _Maps, ones: list[_Coded], others: list[_Coded]) -> list[_Coded]:
    """One map of each column: those that keep the most rows, if these are nearly all."""
    i, j = ones[0].found.target, others[0].found.target
    together = np.zeros((len(maps.table.columns[i].distinct) + 1, len(maps.table.columns[j].distinct) + 1), dtype=bool)
    together[maps.known[i], maps.known[j]] = True  # its last row and column stay empty: no value of the column is -1
    best: tuple[float, list[_Coded]] = (_FITTING, [])
    for one in ones:
        shares = together[one.codes, np.stack([other.codes for other in others])].mean(axis=1)
        at = int(shares.argmax())
        if shares[at] > best[0]:
            best = (float(shares[at]), [one, others[at]])
    return best[1]


def _extend(maps: _Maps, chosen: list[_Coded], effort: Effort) -> list[ColumnMap]:
    known, used = maps.known, {coded.found.target for coded in chosen}
    for source in maps.sources[2:]:
        effort.check_time()
        targets = [source] if source in known else []
        targets += [target for target in sorted(known) if target != source]
        best: tuple[float, _Coded | None] = (_FITTING, None)
        for target in (target for target in targets if target not in used and maps.of(source, target)):
            rows = np.unique(_joint([known[c.found.target] for c in chosen] + [known[target]]))
            for coded in maps.of(source, target):
                share = _share([c.codes for c in chosen] + [coded.codes], rows)
                if share > best[0]:
                    best = (share, coded)
            if best[0] == 1.0:
                break
        if best[1] is not None:
            chosen = [*chosen, best[1]]
            used.add(best[1].found.target)
    return [coded.found for coded in chosen]


def _possible(table: KnownTable, precision: Precision, values: Floats, target: int) -> list[tuple[float, float, float]]:
    """(scale, shift, slack) of the lines that send all of `values` to values of the dataset's column."""
    distinct = table.columns[target].distinct
    if len(values) < 2 or len(values) > len(distinct):
        return []
    reach = min(_REACH, len(distinct) - 1)
    low, high = distinct[: reach + 1], distinct[-reach - 1 :]
    largest, finest = float(precision.scaled(values).max()), 1e-9 * float(max(abs(distinct[0]), abs(distinct[-1])))
    found: list[tuple[float, float, float]] = []
    for at_first, at_last, sign in ((low, high, 1.0), (high, low, -1.0)):
        starts, ends = np.repeat(at_first, len(at_last)), np.tile(at_last, len(at_first))
        scales = (ends - starts) / (values[-1] - values[0])
        shifts, slacks = starts - scales * values[0], largest * np.abs(scales) + finest
        stay = np.flatnonzero(scales * sign > 0)
        for part in (values[:: max(1, len(values) // _FIRST_VALUES)], values):  # a few end most of them
            expected = scales[stay, None] * part + shifts[stay, None]
            stay = stay[(_codes(distinct, expected, slacks[stay, None]) >= 0).all(axis=1)]
        found += zip(scales[stay].tolist(), shifts[stay].tolist(), slacks[stay].tolist(), strict=True)
    return found[:_MAPS]


def _codes(distinct: Floats, values: Floats, slack: Floats | float) -> Ints:
    at = np.minimum(np.maximum(np.searchsorted(distinct, values), 1), len(distinct) - 1)
    at = np.where(np.abs(distinct[at - 1] - values) <= np.abs(distinct[at] - values), at - 1, at)
    return np.where(np.abs(distinct[at] - values) <= slack, at, -1).astype(np.int64)


def _codes_of(table: KnownTable, target: int) -> Ints:
    return np.searchsorted(table.columns[target].distinct, table.values[:, target]).astype(np.int64)


def _joint(codes: Sequence[Ints]) -> Ints:
    """One number for each row's codes; wraps around when there are very many, which costs chance matches only."""
    joint = np.zeros(len(codes[0]), dtype=np.int64)
    for one in codes:
        joint = joint * (_MOST_VALUES + 1) + one
    return joint


def _share(codes: Sequence[Ints], rows: Ints) -> float:
    """The share of candidate rows whose codes occur together in the dataset."""
    asked = _joint(codes)
    at = np.minimum(np.searchsorted(rows, asked), len(rows) - 1)
    fits = (rows[at] == asked) & np.all(np.stack(codes) >= 0, axis=0)
    return float(fits.mean())
