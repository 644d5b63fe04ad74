"""Finds which columns of a candidate are columns of the dataset, also scaled and shifted.

Two ways:

*As they are.* A sample of the candidate's rows is looked up in every column of
the dataset; where most values are found, the column is that one.

*Under a map of their own per column.* Standard, min-max and robust scalers, and
any other affine map, leave one thing alone: the map of a column is fixed by two
of its values. So two values of one candidate column, its smallest and largest,
are paired with values of a dataset column; each pairing is a hypothesis (scale,
shift), and a few more values of the column confirm or end it. A subset of the
rows has its extremes among the dataset's extreme values, so with `N` distinct
values there and `K` here, pairing the outermost `4·N/K` on both sides suffices
with high probability; where time allows, the search goes further in.

One confirmed column says which rows they are, wherever its value is unique. All
other columns then follow at once: a column that is another one scaled and
shifted is perfectly correlated with it over those rows.

Not found: columns that were mixed with each other (rotations such as PCA),
bent (logarithms, ranks), or blurred by noise beyond the stored precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from insitu.gate.effort import Effort
from insitu.gate.known.table import Floats, Ints, KnownTable
from insitu.gate.rows.candidates import Candidate, Precision
from insitu.gate.rows.evidence import ColumnMap
from insitu.gate.rows.pairings import Line, Probed, fitting_lines

LEAST_SCALED_ROWS = 5
"""A map of a column has two free numbers, so fewer rows than this fit too easily to mean anything."""

_SAMPLE = 48
_FOUND_SHARE = 0.2
_MIN_DISTINCT = 5
_REACH = 4  # times N/K: how far from the ends the dataset's values are paired
_DEEP_ANCHORS = ((0.0, 1.0), (0.25, 0.75), (0.1, 0.6))
_DEEP_REACH = 600
# Hypotheses, of ten to a hundred nanoseconds each. What one scan may spend in all; and on one candidate: on pairings
# beyond those that are promised, on further ones about columns in the same place, and on a guessed layout.
_ALL_BUDGET = 400_000_000
_WIDE_BUDGET, _WIDE_PER_ROW = 1_500_000, 200
_DEEP_BUDGET = 800_000
_GUESS_BUDGET = 150_000
_PROMISED_SHARE = 10
"""Each column of a copy of a tenth of a table's rows is tried as each of the table's columns. Else it is said."""
_GUESS_ROWS = 8  # fewer rows than these are not worth guessing a layout for
_FITTING_SHARE = 0.85
_LEAST_ON_A_LINE = 3  # different values: through two there is always one
_MAX_SEEDS = 64
_FEW_VALUES = 1024
_MOST_DISTINCT = 1.25  # times those of the dataset's column
_TELLING = 2  # times as many values as may be distinct, to see that more are
_WORTH_MARKING = 4096


class SearchPurse:
    """What one scan may spend on hypotheses. Counted, not timed, to be deterministic.

    What is promised is tried as long as anything is left; if nothing is, the search is not complete.
    """

    def __init__(self, rows: int, budget: int | None = None) -> None:
        self._wide = _WIDE_BUDGET + _WIDE_PER_ROW * rows
        self._left = _ALL_BUDGET if budget is None else budget
        self.complete = True

    def wide(self) -> int:
        """For pairings beyond what is promised: less when many candidates have had theirs."""
        return min(self._wide, self._left // 8)

    def deep(self) -> int:
        return min(_DEEP_BUDGET, self._left // 16)

    def guess(self) -> int:
        return min(_GUESS_BUDGET, self._left // 16)

    def afford(self, hypotheses: int) -> bool:
        """Take so much, unless it is more than an eighth of what is left."""
        if hypotheses > self._left // 8:
            return False
        self._left -= hypotheses
        return True

    def spend(self, hypotheses: int, *, promised: bool) -> bool:
        """Whether it may be tried."""
        if promised and hypotheses > self._left:
            self.complete = False
            return False
        self._left = max(0, self._left - hypotheses)
        return True


@dataclass(frozen=True)
class _Hypothesis:
    source: int
    target: int
    scale: float
    shift: float


@dataclass(frozen=True)
class _Try:
    """Two values of a candidate column, and the values of a dataset column that each may stand for."""

    source: int
    target: int
    first: int  # places in the candidate column's distinct values
    last: int
    low: slice  # of the dataset column's distinct values, for a positive scale
    high: slice

    @property
    def hypotheses(self) -> int:
        return 2 * (self.low.stop - self.low.start) * (self.high.stop - self.high.start)


def maps_as_they_are(table: KnownTable, candidate: Candidate) -> list[ColumnMap]:
    """For each candidate column the dataset column that its values are found in, if there is one."""
    values = candidate.values
    sample = np.unique(np.linspace(0, len(values) - 1, _SAMPLE).astype(np.int64))
    share = np.zeros((values.shape[1], table.width))
    rarity = np.zeros_like(share)
    flat = values[sample].T.reshape(-1)  # all columns at once: one search per dataset column
    tolerance = np.concatenate([p.copied(values[sample, a]) for a, p in enumerate(candidate.precisions)])
    order = np.argsort(flat)  # ascending, so that each search goes on where the one before ended
    flat, tolerance, counts = flat[order], tolerance[order], np.empty(len(flat), dtype=np.int64)
    for target in range(table.width):
        counts[order] = table.look_up(target, flat, tolerance).counts
        by_column = counts.reshape(values.shape[1], len(sample))
        found = np.count_nonzero(by_column, axis=1)
        share[:, target] = found / len(sample)
        if found.any():
            bits = np.where(by_column > 0, -np.log2(np.maximum(by_column, 1) / max(1, table.rows)), 0.0)
            rarity[:, target] = bits.sum(axis=1) / np.maximum(found, 1)  # of what was found
    best: dict[int, tuple[float, int]] = {}
    for source in range(values.shape[1]):
        scores = np.where(share[source] >= _FOUND_SHARE, share[source] * (rarity[source] + 1e-3), -1.0)
        if source < table.width and scores[source] > 0:
            scores[source] *= 1.5  # the same place wins unless another one is clearly better
        target = int(np.argmax(scores))
        # One candidate column for each of the dataset's: two copies of a cell are not two cells.
        if scores[target] > best.get(target, (0.0, 0))[0]:
            best[target] = (float(scores[target]), source)
    return [ColumnMap(source, target, 1.0, 0.0) for target, (_, source) in sorted(best.items())]


def affine_maps(
    table: KnownTable, candidate: Candidate, purse: SearchPurse, effort: Effort
) -> Iterator[list[ColumnMap]]:
    """Sets of maps worth testing, the likeliest first. Each has at least three columns (or all)."""
    rows, columns = candidate.values.shape
    if columns < table.cells_needed or (candidate.guessed and (rows < _GUESS_ROWS or _all_whole(candidate.values))):
        return
    for hypothesis in islice(_seeds(table, candidate, purse, effort), _MAX_SEEDS):
        maps = _extend(table, candidate, hypothesis)
        if len(maps) >= table.cells_needed:
            yield maps


def _all_whole(values: Floats) -> bool:
    return all(_are_whole(some) for some in (values[:_FEW_VALUES], values))


def _are_whole(values: Floats) -> bool:
    finite = values[np.isfinite(values)]
    return bool(np.all(finite == np.rint(finite)))


def _seeds(table: KnownTable, candidate: Candidate, purse: SearchPurse, effort: Effort) -> Iterator[_Hypothesis]:
    if all(_has_more_than(_most_distinct(table), column) for column in candidate.values.T):
        return  # none can be one of the dataset's: `_tries` would find that, after it has sorted them
    distinct = [_distinct(column[np.isfinite(column)]) for column in candidate.values.T]
    alike = _alike(table)
    probed: dict[tuple[int, int, int], Probed] = {}
    lines: dict[tuple[object, ...], list[Line]] = {}  # of columns with the same values: codes, counts, pixels
    for attempt in _tries(table, candidate, distinct, purse):
        effort.check_time()
        ends = (attempt.source, attempt.first, attempt.last)
        if ends not in probed:
            probed[ends] = Probed.of(distinct[attempt.source], *ends[1:], candidate.precisions[attempt.source])
        key = (*ends, alike[attempt.target], attempt.low.start, attempt.high.start)
        if key not in lines:
            lines[key] = fitting_lines(probed[ends], table.columns[attempt.target], attempt.low, attempt.high)
        for scale, shift in lines[key]:
            yield _Hypothesis(attempt.source, attempt.target, scale, shift)


def _most_distinct(table: KnownTable) -> int:
    """More distinct values than so many, and a column is none of the dataset's."""
    return int(_MOST_DISTINCT * max((len(column.distinct) for column in table.columns), default=0)) + 2


def _has_more_than(most: int, column: Floats) -> bool:
    """Whether the first values of the column are more distinct ones already: so many tell, where there is no end of them."""
    first = column[: _TELLING * most]
    return len(first) > most and len(_distinct(first[np.isfinite(first)])) > most


def _distinct(values: Floats) -> Floats:
    """As `np.unique`, of finite values. Numbers of eight bits are marked off, since there are at most 65,536 of them."""
    with np.errstate(all="ignore"):
        single = values.astype(np.float32)
    patterns = single.view(np.uint32)
    if len(values) < _WORTH_MARKING or np.any(patterns & 0xFFFF) or not np.array_equal(single, values):
        return np.unique(values)
    there = np.zeros(1 << 16, dtype=bool)
    there[patterns >> 16] = True
    return np.unique((np.flatnonzero(there).astype(np.uint32) << 16).view(np.float32).astype(np.float64))


def _alike(table: KnownTable) -> list[int]:
    """For each column the first one that has the same distinct values."""
    first: dict[bytes, int] = {}
    small = [column.distinct if len(column.distinct) <= _FEW_VALUES else None for column in table.columns]
    return [at if values is None else first.setdefault(values.tobytes(), at) for at, values in enumerate(small)]


def _tries(table: KnownTable, candidate: Candidate, distinct: list[Floats], purse: SearchPurse) -> Iterator[_Try]:
    """What to pair with what: the same places first, then any, then deeper; each within its budget."""
    sources = [a for a in range(len(distinct)) if len(distinct[a]) >= _MIN_DISTINCT]
    sources.sort(key=lambda a: (_bluntness(distinct[a], candidate.precisions[a]), -len(distinct[a]), a))
    targets = [j for j in range(table.width) if len(table.columns[j].distinct) >= _MIN_DISTINCT]
    same = [(a, a) for a in sources if a in targets]
    other = [(a, j) for a in sources for j in targets if a != j]
    tiers = ((same + other, purse.wide(), False), (same, purse.deep(), True))
    if candidate.guessed:
        tiers = ((same[:3] + other, purse.guess(), False),)
    for pairs, budget, deep in tiers:
        left = budget
        for source, target in pairs:
            count, known = len(distinct[source]), len(table.columns[target].distinct)
            if count > _MOST_DISTINCT * known + 2:
                continue  # more distinct values than the dataset's column has
            promised = not (deep or candidate.guessed) and _PROMISED_SHARE * count >= known
            for attempt in _deep(source, target, count, known) if deep else [_shallow(source, target, count, known)]:
                if not promised and left <= 0:
                    break
                if not purse.spend(attempt.hypotheses, promised=promised):
                    return
                if not promised:
                    left -= attempt.hypotheses
                yield attempt


def _bluntness(values: Floats, precision: Precision) -> int:
    """Coarse columns last: they fit anything. In powers of a thousand, so that the rest decides among likes."""
    span = float(values[-1] - values[0])
    return int(np.log10(max(float(precision.scaled(values).max()) / span, 1e-12)) // 3)


def _shallow(source: int, target: int, count: int, known: int) -> _Try:
    reach = min(known, int(np.ceil(_REACH * known / count)) + 2, _DEEP_REACH)
    return _Try(source, target, 0, count - 1, slice(0, reach), slice(known - reach, known))


def _deep(source: int, target: int, count: int, known: int) -> Iterator[_Try]:
    """For subsets that avoid the extremes, or tables diluted with other rows."""
    for first_share, last_share in _DEEP_ANCHORS:
        first, last = round(first_share * (count - 1)), round(last_share * (count - 1))
        low = _around(first_share, known)
        high = _around(last_share, known)
        yield _Try(source, target, first, last, low, high)


def _around(share: float, known: int) -> slice:
    start = max(0, min(round(share * known) - _DEEP_REACH // 2, known - _DEEP_REACH))
    return slice(start, min(known, start + _DEEP_REACH))


def _extend(table: KnownTable, candidate: Candidate, seed: _Hypothesis) -> list[ColumnMap]:
    """All columns that are scaled columns of the dataset over the rows that the seed identifies."""
    which, rows = _identified(table, candidate, seed)
    if len(which) < _MIN_DISTINCT:
        return []
    ours, theirs = candidate.values[which], table.values[rows]
    correlation = np.abs(_standardised(ours).T @ _standardised(theirs)) / len(which)
    targets = correlation.argmax(axis=1)
    if correlation[seed.source, seed.target] >= correlation[seed.source, targets[seed.source]] - 1e-9:
        targets[seed.source] = seed.target
    maps: dict[int, ColumnMap] = {}
    for source, fitted in enumerate(fit_lines(ours, theirs[:, targets], candidate.precisions)):
        if fitted is not None:
            target = int(targets[source])
            maps.setdefault(target, ColumnMap(source, target, *fitted))
    return list(maps.values())


def _identified(table: KnownTable, candidate: Candidate, seed: _Hypothesis) -> tuple[Ints, Ints]:
    """Pairs (candidate row, dataset row) whose value under the seed is the dataset's only one there."""
    cells = candidate.values[:, seed.source] * seed.scale + seed.shift
    precision = candidate.precisions[seed.source]
    largest = float(
        np.nanmax(precision.scaled(candidate.values[:, seed.source]))
    )  # the seed's own two values were rounded
    windows = table.look_up(seed.target, cells, 2 * largest * abs(seed.scale))
    alone = np.flatnonzero(windows.counts == 1)
    rows = table.columns[seed.target].rows[windows.low[alone]].astype(np.int64)
    rows, first = np.unique(rows, return_index=True)  # a row that is met twice says nothing new
    return alone[first], rows


def _standardised(values: Floats) -> Floats:
    filled = np.where(np.isfinite(values), values, np.nanmean(np.where(np.isfinite(values), values, 0.0), axis=0))
    centred = filled - filled.mean(axis=0)
    spread = centred.std(axis=0)
    return centred / np.where(spread > 0, spread, np.inf)


def fit_lines(ours: Floats, theirs: Floats, precisions: Sequence[Precision]) -> list[tuple[float, float, float] | None]:
    """For each column scale, shift and slack of the line through its pairs, if nearly all of them lie on it.

    All columns at once: a candidate may have hundreds, and there are many hypotheses.
    """
    with np.errstate(all="ignore"):  # of columns of which nothing is taken
        return _fit_lines(ours, theirs, precisions)


def _fit_lines(
    ours: Floats, theirs: Floats, precisions: Sequence[Precision]
) -> list[tuple[float, float, float] | None]:
    taken = np.isfinite(ours) & np.isfinite(theirs)
    x, y = np.where(taken, ours, 0.0), np.where(taken, theirs, 0.0)
    relative = np.array([precision.relative for precision in precisions])
    constant = np.array([precision.step / 2 + precision.floor for precision in precisions])
    tolerance = np.abs(x) * relative + constant
    found: list[tuple[float, float, float] | None] = [None] * ours.shape[1]
    for _ in range(2):  # the second time without what did not fit
        count = np.maximum(taken.sum(axis=0), 1)
        centred = np.where(taken, x - x.sum(axis=0, where=taken) / count, 0.0)
        middle = y.sum(axis=0, where=taken) / count
        spread = (centred**2).sum(axis=0)
        scale = (centred * (y - middle)).sum(axis=0) / np.where(spread > 0, spread, np.inf)
        shift = middle - scale * (x.sum(axis=0, where=taken) / count)
        usual = _quantiles(np.where(taken, np.abs(x), np.inf), count, 0.5) * relative + constant
        slack = 1e-10 * np.abs(y).max(axis=0, where=taken, initial=0.0) + 0.5 * usual * np.abs(scale)
        residual = np.where(taken, np.abs(scale * x + shift - y), np.inf)
        fits = (taken & (residual <= tolerance * np.abs(scale) + slack)).sum(axis=0) >= _FITTING_SHARE * count
        for at in np.flatnonzero(fits & (scale != 0)):
            if found[at] is None and len(np.unique(x[taken[:, at], at])) >= _LEAST_ON_A_LINE:
                found[at] = (float(scale[at]), float(shift[at]), float(slack[at]))
        taken = taken & (residual <= _quantiles(residual, count, _FITTING_SHARE)) & ~fits
    return found


def _quantiles(values: Floats, counts: Ints, share: float) -> Floats:
    """Of each column's first `counts` values in ascending order, as `np.quantile` has them."""
    ordered = np.sort(values, axis=0)
    place = share * (counts - 1)
    low = np.floor(place).astype(np.int64)
    below, above = (np.take_along_axis(ordered, at[None], axis=0)[0] for at in (low, np.ceil(place).astype(np.int64)))
    return below + np.where(place > low, (above - below) * (place - low), 0.0)
