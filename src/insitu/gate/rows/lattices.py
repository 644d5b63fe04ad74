"""Undoes scalings of decimals: a few dozen rows, in any order, of any of a table's columns.

Measurements are written with so many decimals, so a column's values are whole
multiples of a step, and still are after scaling and shifting, of another one. So

1. each candidate column's step is found, as the largest number of which all its differences are multiples;
2. two columns, counted in steps, lie in the table's two columns up to a shift along each: every candidate row and
   every table row vote for the shift that would make them one, and true rows all vote for the same;
3. the rows that voted so are pairs, and through pairs of them lines are fitted for all columns.

Single columns of decimals fit each other at most shifts, since nearly every step has some row. Two of them
together are nearly as many cells as there are rows, or more: only such pairs are asked. Honest weights stand on no lattice,
but for whole numbers, and those agree with no shift.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from insitu.gate.effort import Effort
from insitu.gate.known.table import Floats, Ints, KnownTable
from insitu.gate.rows.candidates import Candidate
from insitu.gate.rows.evidence import ColumnMap
from insitu.gate.rows.maps import fit_lines

_LEAST_ROWS = 12
_SAMPLE = 24
_LEAST_STEPS = 24  # between a column's ends: flags and small counts say nothing
_MOST_STEPS = 1 << 22
_CLEAR = 16  # times as wide as what rounding left open, a step has to be
_PARTS = 6  # the smallest difference may be so many steps
_MOST_DECIMALS = 6
_TELLING = 0.5  # of the rows have a pair of values of their own, in two columns that are asked
_COLUMNS = 3  # of the candidate, that are paired
_BINS = 1 << 20
_MIX = np.uint64(0x9E3779B97F4A7C15)
_AGREE = 0.4  # of the rows sampled, the others may be something else
_LEAST_VOTES = 10
_CANDIDATES = 6  # the first gets so much of all, the next of what is left


@dataclass
class VotePurse:
    """Votes that one scan may count; each takes some ten nanoseconds."""

    left: int = 120_000_000

    def share(self) -> VotePurse:
        """For one candidate: a part of what is left, so that something is left for the next."""
        part = self.left // _CANDIDATES
        self.left -= part
        return VotePurse(part)

    def pay(self, votes: int) -> bool:
        if votes > self.left:
            return False
        self.left -= votes
        return True


def maps_of_lattices(table: KnownTable, candidate: Candidate, purse: VotePurse, effort: Effort) -> list[ColumnMap]:
    """Maps of all columns, if two of them agree about which rows they are; else none."""
    values = candidate.values
    if candidate.guessed or len(values) < _LEAST_ROWS or values.shape[1] < 2 or table.width < 2:
        return []
    pairs = _telling_pairs(table)
    if not pairs:
        return []
    steps = {at: found for at in range(values.shape[1]) if (found := _in_steps(candidate, at)) is not None}
    sources = sorted(steps, key=lambda at: (-len(np.unique(steps[at])), at))[:_COLUMNS]
    if len(sources) < 2:
        return []
    share = purse.share()
    sample = np.unique(np.linspace(0, len(values) - 1, _SAMPLE).astype(np.int64))
    for first, second in ((a, b) for at, a in enumerate(sources) for b in sources[at + 1 :]):
        for pair in pairs:
            effort.check_time()
            if not share.pay(4 * len(sample) * table.rows):
                return []
            for which, rows in _agreeing(table, pair, steps[first], steps[second], sample):
                maps = _lines(table, candidate, which, rows)
                if len(maps) >= table.cells_needed:
                    return maps
    return []


def _in_steps(candidate: Candidate, at: int) -> Ints | None:
    """A candidate's column counted in its own step, from its smallest value; None if it has none."""
    values = candidate.values[:, at]
    if not np.isfinite(values).all():
        return None
    # Decimals may have been rounded to, after scaling; or what is written so is exact.
    rounded = candidate.precisions[at]
    for precision in dict.fromkeys((replace(rounded, step=0.0), rounded)):
        found = _counted(values, 2 * float(precision.scaled(values).max()))
        if found is not None:
            return found
    return None


def _counted(values: Floats, blur: float) -> Ints | None:
    """The column in steps, if each value lies within half of `blur` of one."""
    ordered = np.unique(values)
    differences = np.unique(np.diff(ordered))
    differences = differences[differences > _CLEAR * blur] if blur else differences
    if len(differences) < 2 or ordered[-1] - ordered[0] < _LEAST_STEPS * differences[0]:
        return None
    offsets = ordered - ordered[0]
    for parts in range(1, _PARTS + 1):
        step = _refined(np.concatenate([differences, offsets[1:]]), differences[0] / parts, blur)
        if step and step > _CLEAR * blur and offsets[-1] / step < _MOST_STEPS:
            return np.rint((values - ordered[0]) / step).astype(np.int64)
    return None


def _refined(differences: Floats, step: float, blur: float) -> float:
    """The step of which all differences are multiples, beginning with a rough one; 0 if there is none."""
    ordered = np.sort(differences)
    slack = 2 * blur + 1e-9 * float(ordered[-1])
    done = 0
    while done < len(ordered):
        reach = step / 8 / max(slack, 1e-300) * step  # so far the rough step tells which multiple it is
        end = max(int(np.searchsorted(ordered, max(reach, 4 * ordered[done]), side="right")), done + 1)
        multiples = np.rint(ordered[:end] / step)
        if (multiples < 1).any() or (np.abs(ordered[:end] - multiples * step) > max(slack, step / 6)).any():
            return 0.0
        step = float((multiples * ordered[:end]).sum() / (multiples**2).sum())
        done = end
    off = np.abs(ordered - np.rint(ordered / step) * step)
    return step if (off <= max(2 * slack, step / 50)).all() else 0.0


@lru_cache(maxsize=4)
def _columns_in_steps(table: KnownTable) -> dict[int, Ints]:
    """The table's columns of decimals, counted in their last digit's worth. Of a missing cell: far away."""
    found: dict[int, Ints] = {}
    for at, column in enumerate(table.columns):
        for decimals in range(_MOST_DECIMALS + 1):
            scaled = column.distinct * 10.0**decimals
            if len(scaled) < _LEAST_STEPS or scaled[-1] - scaled[0] > _MOST_STEPS:
                break
            if np.abs(scaled - np.rint(scaled)).max() < 1e-4:
                values = np.asarray(table.values[:, at], dtype=np.float64) * 10.0**decimals
                found[at] = np.where(np.isfinite(values), np.rint(values), 2.0**40).astype(np.int64)
                break
    return found


@lru_cache(maxsize=4)
def _telling_pairs(table: KnownTable) -> list[tuple[int, int]]:
    """Pairs of columns in which most rows have a pair of values of their own."""
    steps = _columns_in_steps(table)
    least = _TELLING * table.rows
    return [
        (one, other)
        for one in steps
        for other in steps
        if one != other and _distinct(steps[one] * (1 << 32) + steps[other]) >= least
    ]


def _distinct(values: Ints) -> int:
    """How many different ones: some ten times as fast as `np.unique` for as few as a table's rows."""
    ordered = np.sort(values)
    return int(np.count_nonzero(ordered[1:] != ordered[:-1])) + min(1, len(ordered))


def _agreeing(
    table: KnownTable, pair: tuple[int, int], first: Ints, second: Ints, sample: Ints
) -> Iterator[tuple[Ints, Ints]]:
    """Pairs (candidate row, table row) of the shift that most rows agree on, for each way to turn the columns."""
    steps = _columns_in_steps(table)
    ones, others = steps[pair[0]], steps[pair[1]]
    for sign, other_sign in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        keys = _key(ones, others)[None, :] - _key(sign * first[sample], other_sign * second[sample])[:, None]
        bins = (keys.reshape(-1).view(np.uint64) * _MIX >> np.uint64(44)).astype(np.int64)  # 20 bits
        votes = np.bincount(bins, minlength=_BINS)
        best = int(votes.argmax())
        if votes[best] < max(_LEAST_VOTES, _AGREE * len(sample)):
            continue
        values, counts = np.unique(keys.reshape(-1)[bins == best], return_counts=True)
        which, rows = np.nonzero(keys == values[counts.argmax()])
        which, at = np.unique(which, return_index=True)
        if len(which) >= max(_LEAST_VOTES, _AGREE * len(sample)):
            yield sample[which], rows[at]


def _key(ones: Ints, others: Ints) -> Ints:
    """Two counts as one number, of which differences are those of both."""
    return (ones << np.int64(24)) + others


def _lines(table: KnownTable, candidate: Candidate, which: Ints, rows: Ints) -> list[ColumnMap]:
    ours, theirs = candidate.values[which], np.asarray(table.values[rows], dtype=np.float64)
    maps: dict[int, ColumnMap] = {}
    targets = np.abs(_standardised(ours).T @ _standardised(theirs)).argmax(axis=1)
    for source, fitted in enumerate(fit_lines(ours, theirs[:, targets], candidate.precisions)):
        if fitted is not None:
            target = int(targets[source])
            maps.setdefault(target, ColumnMap(source, target, *fitted))
    return list(maps.values())


def _standardised(values: Floats) -> Floats:
    finite = np.where(np.isfinite(values), values, 0.0)
    centred = finite - finite.mean(axis=0)
    spread = centred.std(axis=0)
    return centred / np.where(spread > 0, spread, np.inf)
