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

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from insitu.gate.effort import Effort
from insitu.gate.known_table import Column, Floats, Ints, KnownTable
from insitu.gate.row_candidates import Candidate
from insitu.gate.row_evidence import ColumnMap

_SAMPLE = 48
_FOUND_SHARE = 0.5
_MIN_DISTINCT = 5
_SEEDS = 4
_REACH = 4  # times N/K: how far from the ends the dataset's values are paired
_MAX_REACH = 1500
_PROBES = 64
_STRICT = 3
_PASSED_SHARE = 0.85
_SURVIVORS = 4
_CHUNK = 1 << 19


@dataclass(frozen=True)
class _Hypothesis:
    source: int
    target: int
    scale: float
    shift: float


def maps_as_they_are(table: KnownTable, candidate: Candidate) -> list[ColumnMap]:
    """For each candidate column the dataset column that its values are found in, if there is one."""
    values = candidate.values
    sample = np.unique(np.linspace(0, len(values) - 1, _SAMPLE).astype(np.int64))
    share = np.zeros((values.shape[1], table.width))
    rarity = np.zeros_like(share)
    flat = values[sample].T.reshape(-1)  # all columns at once: one search per dataset column
    tolerance = np.repeat(candidate.tolerances, len(sample))
    for target in range(table.width):
        counts = table.look_up(target, flat, tolerance).counts.reshape(values.shape[1], len(sample))
        share[:, target] = np.mean(counts > 0, axis=1)
        rarity[:, target] = -np.mean(np.log2(np.maximum(counts, 1) / max(1, table.rows)), axis=1)
    maps: list[ColumnMap] = []
    for source in range(values.shape[1]):
        scores = np.where(share[source] >= _FOUND_SHARE, share[source] * (rarity[source] + 1e-3), -1.0)
        if source < table.width and scores[source] > 0:
            scores[source] *= 1.5  # the same place wins unless another one is clearly better
        target = int(np.argmax(scores))
        if scores[target] > 0:
            maps.append(ColumnMap(source, target, 1.0, 0.0, float(candidate.tolerances[source])))
    return maps


def affine_maps(table: KnownTable, candidate: Candidate, effort: Effort) -> Iterator[list[ColumnMap]]:
    """Sets of maps worth testing, the likeliest first. Each has at least three columns (or all)."""
    if candidate.values.shape[1] < table.cells_needed:
        return
    for hypothesis in _seeds(table, candidate, effort):
        maps = _extend(table, candidate, hypothesis)
        if len(maps) >= table.cells_needed:
            yield maps


def _seeds(table: KnownTable, candidate: Candidate, effort: Effort) -> Iterator[_Hypothesis]:
    distinct = [np.unique(column[np.isfinite(column)]) for column in candidate.values.T]
    telling = sorted(range(len(distinct)), key=lambda a: (-len(distinct[a]), a))
    telling = [a for a in telling if len(distinct[a]) >= _MIN_DISTINCT][:_SEEDS]
    targets = [j for j in range(table.width) if len(table.columns[j].distinct) >= _MIN_DISTINCT]
    # The same place first: most tables keep the order of their columns.
    tries = [(a, a) for a in telling if a in targets]
    tries += [(a, j) for a in telling for j in targets if a != j]
    for source, target in tries:
        effort.check_time()
        column = table.columns[target]
        if len(distinct[source]) > 1.1 * len(column.distinct) + 2:
            continue  # more distinct values than the dataset's column has
        for scale, shift in _fits(distinct[source], column, float(candidate.tolerances[source]), effort):
            yield _Hypothesis(source, target, scale, shift)


def _fits(values: Floats, column: Column, tolerance: float, effort: Effort) -> list[tuple[float, float]]:
    """Scales and shifts under which `values` (distinct, ascending) are values of `column`."""
    known = column.distinct
    reach = min(len(known), _MAX_REACH, int(np.ceil(_REACH * len(known) / len(values))) + 2)
    low, high = known[:reach], known[-reach:]
    probes = values[1:-1][np.unique(np.linspace(0, len(values) - 3, _PROBES).astype(np.int64))]
    # The order in which they are asked is mixed, so that the first few lie far apart.
    probes = probes[np.argsort((np.arange(len(probes)) * 37) % max(1, len(probes)), kind="stable")]
    found: list[tuple[float, float, float]] = []
    for first, last in ((low, high), (high, low)):
        for start in range(0, len(first), step := max(1, _CHUNK // len(last))):
            effort.check_time()
            at_first = np.repeat(first[start : start + step], len(last))
            scales = (np.tile(last, len(first[start : start + step])) - at_first) / (values[-1] - values[0])
            right_way = scales > 0 if first is low else scales < 0
            shifts = at_first - scales * values[0]
            found += _confirmed(known, probes, scales[right_way], shifts[right_way], tolerance)
    found.sort(reverse=True)
    return [(scale, shift) for _, scale, shift in found[:_SURVIVORS]]


def _confirmed(
    known: Floats, probes: Floats, scales: Floats, shifts: Floats, tolerance: float
) -> list[tuple[float, float, float]]:
    """(share of probes that are values of the column, scale, shift) of the hypotheses that stand."""
    slack = 1e-12 * float(np.max(np.abs(known)))
    passed = np.zeros(len(scales), dtype=np.int64)
    for number, probe in enumerate(probes, start=1):
        if not len(scales):
            return []
        expected = scales * probe + shifts
        at = np.clip(np.searchsorted(known, expected), 1, len(known) - 1)
        distance = np.minimum(np.abs(known[at] - expected), np.abs(known[at - 1] - expected))
        passed = passed + (distance <= 2 * tolerance * np.abs(scales) + slack)
        least = number if number <= _STRICT else _PASSED_SHARE * number
        stay = passed >= least
        scales, shifts, passed = scales[stay], shifts[stay], passed[stay]
    best = np.argsort(-passed, kind="stable")[:_SURVIVORS]
    return [(float(passed[i]) / max(1, len(probes)), float(scales[i]), float(shifts[i])) for i in best]


def _extend(table: KnownTable, candidate: Candidate, seed: _Hypothesis) -> list[ColumnMap]:
    """All columns that are scaled columns of the dataset over the rows that the seed identifies."""
    which, rows = _identified(table, candidate, seed)
    if len(which) < _MIN_DISTINCT:
        return []
    ours, theirs = candidate.values[which], table.values[rows]
    correlation = np.abs(_standardised(ours).T @ _standardised(theirs)) / len(which)
    maps: list[ColumnMap] = []
    for source in range(ours.shape[1]):
        target = int(np.argmax(correlation[source]))
        if source == seed.source and correlation[source, seed.target] >= correlation[source, target] - 1e-9:
            target = seed.target
        fitted = _fit(ours[:, source], theirs[:, target], float(candidate.tolerances[source]))
        if fitted is not None:
            maps.append(ColumnMap(source, target, *fitted))
    return maps


def _identified(table: KnownTable, candidate: Candidate, seed: _Hypothesis) -> tuple[Ints, Ints]:
    """Pairs (candidate row, dataset row) whose value under the seed is the dataset's only one there."""
    cells = candidate.values[:, seed.source] * seed.scale + seed.shift
    windows = table.look_up(seed.target, cells, 2 * float(candidate.tolerances[seed.source]) * abs(seed.scale))
    alone = np.flatnonzero(windows.counts == 1)
    return alone, table.columns[seed.target].rows[windows.low[alone]]


def _standardised(values: Floats) -> Floats:
    filled = np.where(np.isfinite(values), values, np.nanmean(np.where(np.isfinite(values), values, 0.0), axis=0))
    centred = filled - filled.mean(axis=0)
    spread = centred.std(axis=0)
    return centred / np.where(spread > 0, spread, np.inf)


def _fit(ours: Floats, theirs: Floats, tolerance: float) -> tuple[float, float, float] | None:
    """Scale, shift and tolerance of the line through the pairs, if nearly all of them lie on it."""
    good = np.isfinite(ours) & np.isfinite(theirs)
    x, y = ours[good], theirs[good]
    for _ in range(2):  # the second time without what did not fit
        if len(np.unique(x)) < 3:
            return None
        centre = x.mean()
        scale = float(((x - centre) * (y - y.mean())).sum() / ((x - centre) ** 2).sum())
        shift = float(y.mean() - scale * centre)
        slack = 2 * tolerance * abs(scale) + 1e-10 * float(np.max(np.abs(y)))
        fits = np.abs(scale * x + shift - y) <= slack
        if fits.mean() >= _PASSED_SHARE:
            return (scale, shift, slack) if scale != 0 else None
        residual = np.abs(scale * x + shift - y)
        keep = residual <= np.quantile(residual, _PASSED_SHARE)
        x, y = x[keep], y[keep]
    return None
