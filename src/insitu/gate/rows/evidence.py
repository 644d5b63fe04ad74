"""Counts the dataset's rows that stand in a table, once its columns are known.

A `ColumnMap` says: this column of the candidate is that column of the dataset,
scaled and shifted. With maps for some columns, a candidate row *is* a dataset
row when at least three cells, and at least three fifths of the mapped columns,
agree with one and the same row. An array of column minima, whose cells come
from many rows, therefore is none.

Agreement by chance is reckoned, not assumed away: a cell that many rows share
says little, and so does a value that the candidate repeats (zeros, labels,
flags). With `p` the larger of both shares, a candidate row fits some row of the
dataset by chance with probability about `n · Π p`, times the ways to choose the
cells that agree. Rows count when that is below 1/256 over the whole candidate,
or when eight or more rows fit and chance explains less than a sixteenth.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import cast

import numpy as np
from numpy.typing import NDArray

from insitu.gate.effort import Effort
from insitu.gate.known.table import Floats, Ints, KnownTable, Windows
from insitu.gate.rows.candidates import Candidate

_SHARE_OF_COLUMNS = 0.6
_CHANCE = 2.0**-8
_MANY = 8
_CHANCE_SHARE = 1 / 16
_MAX_PAIRS = 4_000_000
_CHUNK_CELLS = 8_000_000
_ANCHORS = 3

NO_ROWS: Ints = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class ColumnMap:
    """Candidate column `source`, times `scale`, plus `shift`, is dataset column `target`."""

    source: int
    target: int
    scale: float = 1.0
    shift: float = 0.0
    slack: float = 0.0  # how far the map itself may be off, in the dataset column's unit

    @property
    def is_copy(self) -> bool:
        return self.scale == 1.0 and self.shift == 0.0


@dataclass(frozen=True)
class _Mapped:
    """The candidate in the dataset's units, with the places of each cell in the dataset's columns."""

    cells: Floats  # candidate rows by maps
    windows: list[Windows]
    log_chance: Floats  # log2 of the share of dataset rows that each cell fits; 0 where it fits none
    targets: Ints
    tolerances: Floats  # like `cells`


def rows_by_maps(table: KnownTable, candidate: Candidate, maps: list[ColumnMap], effort: Effort) -> Ints:
    """The dataset's rows (their numbers, ascending) that stand in `candidate` under `maps`."""
    needed = max(table.cells_needed, int(np.ceil(_SHARE_OF_COLUMNS * len(maps))))
    if len(maps) < needed or not table.rows:
        return NO_ROWS
    mapped = _apply(table, candidate, maps)
    best = _Best.none(len(candidate.values))
    for which, rows in _pairs(table, mapped):
        for start in range(0, len(which), step := max(1, _CHUNK_CELLS // len(maps))):
            effort.check_time()
            part = slice(start, start + step)
            best.update(which[part], rows[part], *_agreement(table, mapped, which[part], rows[part]))
    return _accept(table, mapped, best, needed)


def _apply(table: KnownTable, candidate: Candidate, maps: list[ColumnMap]) -> _Mapped:
    cells = np.stack([candidate.values[:, m.source] * m.scale + m.shift for m in maps], axis=1)
    tolerances = np.stack([_tolerance(candidate, m) for m in maps], axis=1)
    windows = [table.look_up(m.target, cells[:, i], tolerances[:, i]) for i, m in enumerate(maps)]
    counts = np.stack([w.counts for w in windows], axis=1)
    share = np.maximum(np.maximum(counts, 1) / table.rows, _repeats(candidate.values, maps))
    log_chance = np.where(counts > 0, np.log2(np.minimum(share, 1.0)), 0.0)
    targets = np.array([m.target for m in maps])
    return _Mapped(cells, windows, log_chance, targets, tolerances)


def _tolerance(candidate: Candidate, found: ColumnMap) -> Floats:
    values, precision = candidate.values[:, found.source], candidate.precisions[found.source]
    if found.is_copy:
        return precision.copied(values)
    return precision.scaled(values) * abs(found.scale) + found.slack


def _repeats(values: Floats, maps: list[ColumnMap]) -> Floats:
    """For each mapped cell, the share of the candidate's other values that equal it.

    Over the whole candidate where columns are taken as they are, since zeros are zeros in all of them; else
    within the column, where the same number stands for the same value.
    """
    cells = np.stack([values[:, m.source] for m in maps], axis=1)
    if all(m.is_copy for m in maps):
        return _share_of_equals(cells.reshape(-1)).reshape(cells.shape)
    return np.stack([_share_of_equals(column) for column in cells.T], axis=1)


def _share_of_equals(values: Floats) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts[inverse] - 1) / max(1, len(values) - 1)


def _pairs(table: KnownTable, mapped: _Mapped) -> list[tuple[Ints, Ints]]:
    """(candidate row, dataset row) worth comparing: those that share a telling cell."""
    counts = np.stack([w.counts for w in mapped.windows], axis=1)
    totals = counts.sum(axis=0)
    fitting = np.count_nonzero(counts, axis=0)
    telling = np.argsort(totals / np.maximum(fitting, 1) - fitting / max(1, len(counts)), kind="stable")
    pairs: list[tuple[Ints, Ints]] = []
    for column in cast("list[int]", telling[:_ANCHORS].tolist()):
        if 0 < totals[column] <= _MAX_PAIRS:
            pairs.append(table.expand(int(mapped.targets[column]), mapped.windows[column]))
    return pairs or [_pairs_by_code(table, mapped, telling)]


def _pairs_by_code(table: KnownTable, mapped: _Mapped, telling: NDArray[np.intp]) -> tuple[Ints, Ints]:
    """For tables of few distinct values: rows whose cells agree in several columns at once."""
    known = np.zeros(table.rows, dtype=np.uint64)
    asked = np.zeros(len(mapped.cells), dtype=np.uint64)
    usable = np.ones(len(mapped.cells), dtype=bool)
    bits = 0.0
    for column in telling:
        values = table.columns[target := int(mapped.targets[column])].distinct
        nearest = _nearest(values, mapped.cells[:, column])
        fits = np.abs(values[nearest] - mapped.cells[:, column]) <= mapped.tolerances[:, column] + 1e-12
        if np.count_nonzero(fits) < len(fits) / 2:
            continue
        usable &= fits
        factor = np.uint64(len(values) + 1)
        known = known * factor + np.searchsorted(values, table.values[:, target]).astype(np.uint64)
        asked = asked * factor + nearest.astype(np.uint64)
        bits += float(-mapped.log_chance[fits, column].mean())
        if bits > np.log2(table.rows) + 4:
            break
    order = np.argsort(known, kind="stable")
    low = np.searchsorted(known[order], asked, side="left")
    high = np.where(usable, np.searchsorted(known[order], asked, side="right"), low)
    high = np.minimum(high, low + 8)  # identical rows tell no more than eight of them do
    counts = high - low
    which = np.repeat(np.arange(len(counts)), counts)
    starts = np.repeat(low - np.concatenate(([0], np.cumsum(counts)[:-1])), counts)
    return which, order[starts + np.arange(len(which))].astype(np.int64)


def _nearest(values: Floats, asked: Floats) -> Ints:
    at = np.clip(np.searchsorted(values, asked), 1, max(1, len(values) - 1))
    left = np.minimum(at - 1, len(values) - 1)
    right = np.minimum(at, len(values) - 1)
    return np.where(np.abs(values[left] - asked) <= np.abs(values[right] - asked), left, right).astype(np.int64)


def _agreement(table: KnownTable, mapped: _Mapped, which: Ints, rows: Ints) -> tuple[Ints, Floats]:
    """For each pair: how many cells agree, and how unlikely that is by chance (log2)."""
    cells = mapped.cells[which]
    agree = np.abs(cells - table.values[rows][:, mapped.targets]) <= mapped.tolerances[which] + np.abs(cells) * 1e-14
    return agree.sum(axis=1), np.where(agree, mapped.log_chance[which], 0.0).sum(axis=1)


@dataclass
class _Best:
    """For each candidate row, the dataset row that it agrees with most."""

    row: Ints
    agree: Ints
    log_chance: Floats

    @staticmethod
    def none(count: int) -> _Best:
        return _Best(np.full(count, -1), np.zeros(count, dtype=np.int64), np.zeros(count))

    def update(self, which: Ints, rows: Ints, agree: Ints, log_chance: Floats) -> None:
        order = np.lexsort((rows, log_chance, -agree, which))
        first = order[np.unique(which[order], return_index=True)[1]]
        better = first[agree[first] > self.agree[which[first]]]
        at = which[better]
        self.row[at], self.agree[at], self.log_chance[at] = rows[better], agree[better], log_chance[better]


def _accept(table: KnownTable, mapped: _Mapped, best: _Best, needed: int) -> Ints:
    enough = best.agree >= needed
    width = mapped.cells.shape[1]
    choices = np.array([np.log2(float(comb(width, agree))) for agree in range(width + 1)])
    chance = np.minimum(1.0, table.rows * np.exp2(best.log_chance + choices[best.agree]))
    telling = enough & (chance * len(best.row) <= _CHANCE)
    rows = np.unique(best.row[telling])
    # Many rows together say what one alone can't. What chance would let fit among *all* candidate rows is reckoned
    # at each level of agreement, with the cells that say least.
    least = np.cumsum(np.sort(mapped.log_chance, axis=1)[:, ::-1], axis=1)
    for level in range(needed, width + 1):
        at_level = np.unique(best.row[best.agree >= level])
        expected = float(np.minimum(1.0, table.rows * np.exp2(least[:, level - 1] + choices[level])).sum())
        if len(at_level) >= _MANY and expected <= _CHANCE_SHARE * len(at_level):
            return np.union1d(rows, at_level)
    return rows
