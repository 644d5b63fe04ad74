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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from insitu.gate.known.table import Floats, Ints, KnownTable
from insitu.gate.rows.candidates import Candidate
from insitu.gate.rows.evidence import ColumnMap

_MOST_VALUES = 512  # a column with more is `rows/maps.py`'s
_ROWS_PER_VALUE = 3  # on average; where fewer rows share a value, single columns tell enough
_LEAST_ROWS = 12
_SAMPLE = 400
_REACH = 8
_MAPS = 24  # for each pair of columns
_JOINS = 20_000
_FITTING = 0.9


@dataclass(frozen=True)
class _Coded:
    """A candidate column under one map: the place of each value among the dataset column's distinct ones."""

    found: ColumnMap
    codes: Ints  # -1: no value of the column


def maps_of_codes(table: KnownTable, candidate: Candidate) -> list[ColumnMap]:
    """Maps of the columns with few distinct values, if they fit together; else none."""
    values = candidate.values
    if candidate.guessed or len(values) < _LEAST_ROWS or min(values.shape[1], table.width) < 2:
        return []
    sample = values[np.unique(np.linspace(0, len(values) - 1, _SAMPLE).astype(np.int64))]
    most = min(_MOST_VALUES, table.rows // _ROWS_PER_VALUE)
    known = {j: _codes_of(table, j) for j in range(table.width) if 2 <= len(table.columns[j].distinct) <= most}
    if len(known) < 2:
        return []
    counts = {a: len(np.unique(values[:, a][np.isfinite(values[:, a])])) for a in range(values.shape[1])}
    sources = sorted((a for a in counts if 2 <= counts[a] <= _MOST_VALUES), key=lambda a: (-counts[a], a))
    if len(sources) < 2:
        return []
    start = _best_pair(table, candidate, sample, sources, known)
    return _extend(table, candidate, sample, sources, known, start) if start else []


def _best_pair(
    table: KnownTable, candidate: Candidate, sample: Floats, sources: Sequence[int], known: dict[int, Ints]
) -> list[_Coded]:
    """The two columns and maps under which the most rows have a pair of values that the dataset has."""
    first, second = sources[:2]
    same = [(first, second)] if first in known and second in known else []
    others = [(i, j) for i in known for j in known if i != j and (i, j) not in same]
    best: tuple[float, list[_Coded]] = (_FITTING, [])
    joins = 0
    for i, j in same + others:
        firsts = list(_possible(table, candidate, sample, first, i))
        seconds = list(_possible(table, candidate, sample, second, j))
        pairs = np.unique(_joint([known[i], known[j]]))
        for one in firsts:
            for other in seconds:
                joins += 1
                share = _share([one.codes, other.codes], pairs)
                if share > best[0]:
                    best = (share, [one, other])
        if best[1] or joins > _JOINS:
            break
    return best[1]


def _extend(
    table: KnownTable,
    candidate: Candidate,
    sample: Floats,
    sources: Sequence[int],
    known: dict[int, Ints],
    chosen: list[_Coded],
) -> list[ColumnMap]:
    used = {coded.found.target for coded in chosen}
    for source in sources[2:]:
        targets = [source] if source in known else []
        targets += [target for target in sorted(known) if target != source]
        best: tuple[float, _Coded | None] = (_FITTING, None)
        for target in (target for target in targets if target not in used):
            rows = np.unique(_joint([known[c.found.target] for c in chosen] + [known[target]]))
            for coded in _possible(table, candidate, sample, source, target):
                share = _share([c.codes for c in chosen] + [coded.codes], rows)
                if share > best[0]:
                    best = (share, coded)
            if best[0] == 1.0:
                break
        if best[1] is not None:
            chosen = [*chosen, best[1]]
            used.add(best[1].found.target)
    return [coded.found for coded in chosen]


def _possible(table: KnownTable, candidate: Candidate, sample: Floats, source: int, target: int) -> Iterator[_Coded]:
    """Maps that send every value of a candidate column to some value of the dataset's column."""
    values = np.unique(candidate.values[:, source][np.isfinite(candidate.values[:, source])])
    distinct = table.columns[target].distinct
    if len(values) < 2 or len(values) > len(distinct):
        return
    precision = candidate.precisions[source]
    reach = min(_REACH, len(distinct) - 1)
    given = 0
    low, high = distinct[: reach + 1], distinct[-reach - 1 :]
    for at_first, at_last in ((low, high), (high, low)):
        for start in at_first:
            for end in at_last:
                scale = float((end - start) / (values[-1] - values[0]))
                if scale == 0.0 or (scale > 0) != (at_first is low):
                    continue
                shift = float(start - scale * values[0])
                slack = float(precision.scaled(values).max()) * abs(scale) + 1e-9 * float(np.max(np.abs(distinct)))
                if np.min(_codes(distinct, values * scale + shift, slack)) < 0:
                    continue
                found = ColumnMap(source, target, scale, shift, slack)
                yield _Coded(found, _codes(distinct, sample[:, source] * scale + shift, slack))
                given += 1
                if given >= _MAPS:
                    return


def _codes(distinct: Floats, values: Floats, slack: float) -> Ints:
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
