"""Finds a scaled copy of a table whose values were rounded too coarsely for one column to tell anything.

In half precision a column of some thousand values fits another one at many
scalings, so pairing values (`rows/maps.py`) says nothing. All columns together
still do. A copy of many rows has nearly the dataset's own means and spreads, so
standardising both brings each row close to itself; rows that are near to each
other give better maps, and better maps bring the right rows nearer (iterative
closest points: Besl and McKay, A method for registration of 3-D shapes, 1992).

Columns are taken to stand in the dataset's order. It also sees through dilution
with some other rows, since only the nearest half is believed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from insitu.gate.known.table import Floats, Ints, KnownTable
from insitu.gate.rows.candidates import Candidate
from insitu.gate.rows.evidence import ColumnMap
from insitu.gate.rows.maps import SearchPurse, fit_lines

Singles = NDArray[np.float32]
Flags = NDArray[np.bool_]

_LEAST_ROWS = 40
_SAMPLE = 192
_ROUNDS = 4
_BLOCK = 16_384
_SKEWED = 0.3
_COST = 1 / 60  # of one comparison of two cells, in hypotheses


def matched_maps(table: KnownTable, candidate: Candidate, purse: SearchPurse) -> list[ColumnMap]:
    """Maps of all columns at once, if pairing the nearest rows leads to any."""
    rows: int = len(candidate.values)
    width: int = candidate.values.shape[1]
    least = max(table.cells_needed, 3)
    if candidate.guessed or rows < _LEAST_ROWS or not table.width - 2 <= width <= table.width + 2:
        return []
    columns = [at for at in range(min(width, table.width)) if _spread(candidate, at) and _known_spread(table, at)]
    if len(columns) < least or not purse.afford(int(_COST * _SAMPLE * _ROUNDS * table.rows * len(columns))):
        return []
    chosen: Ints = np.linspace(0, rows - 1, min(rows, _SAMPLE)).astype(np.int64)
    sample = candidate.values[chosen]
    known = np.asarray(table.values[:, columns], dtype=np.float64)
    centre, spread = np.nanmean(known, axis=0), np.nanstd(known, axis=0)
    known = np.nan_to_num((known - centre) / spread).astype(np.float32)
    ours = _turned(sample[:, columns], known)
    for _ in range(_ROUNDS):
        nearest, distance = _nearest(ours, known)
        good = distance <= np.median(distance)
        better = _better(ours, known, nearest, good)
        if better is None:
            return []
        ours = better
    nearest, distance = _nearest(ours, known)
    return _maps(table, candidate, columns, sample, nearest, distance <= np.median(distance))


def _spread(candidate: Candidate, at: int) -> bool:
    column = candidate.values[:, at]
    return bool(np.nanstd(column) > 0)


def _known_spread(table: KnownTable, at: int) -> bool:
    ordered = table.columns[at].ordered
    return len(ordered) > 1 and bool(ordered[-1] > ordered[0])


def _turned(sample: Floats, known: Singles) -> Singles:
    """The sample standardised; a column that leans the other way than the dataset's was scaled by a negative number."""
    standard = np.nan_to_num((sample - np.nanmean(sample, axis=0)) / np.nanstd(sample, axis=0))
    ours, theirs = (standard**3).mean(axis=0), (known.astype(np.float64) ** 3).mean(axis=0)
    other = (np.abs(ours) > _SKEWED) & (np.abs(theirs) > _SKEWED) & (ours * theirs < 0)
    return (standard * (1.0 - 2.0 * other)).astype(np.float32)


def _nearest(ours: Singles, known: Singles) -> tuple[Ints, Singles]:
    """For each row of the sample the dataset's nearest row, and how far it is (squared)."""
    best = np.full(len(ours), np.inf, dtype=np.float32)
    rows = np.zeros(len(ours), dtype=np.int64)
    size = (ours**2).sum(axis=1)
    for start in range(0, len(known), _BLOCK):
        part = known[start : start + _BLOCK]
        distance = size[:, None] + (part**2).sum(axis=1) - 2 * (ours @ part.T)
        at = distance.argmin(axis=1)
        found = distance[np.arange(len(ours)), at]
        nearer = found < best
        best[nearer], rows[nearer] = found[nearer], at[nearer] + start
    return rows, best


def _better(ours: Singles, known: Singles, nearest: Ints, good: Flags) -> Singles | None:
    """The sample moved onto the rows that it is nearest to, column by column."""
    x, y = ours[good], known[nearest[good]]
    x0, y0 = x - x.mean(axis=0), y - y.mean(axis=0)
    power = (x0**2).sum(axis=0)
    if not np.all(power > 0):
        return None
    scale = (x0 * y0).sum(axis=0) / power
    return (ours - x.mean(axis=0)) * scale + y.mean(axis=0)


def _maps(
    table: KnownTable, candidate: Candidate, columns: list[int], sample: Floats, nearest: Ints, good: Flags
) -> list[ColumnMap]:
    precisions = [candidate.precisions[at] for at in columns]
    found = fit_lines(sample[good][:, columns], table.values[nearest[good]][:, columns], precisions)
    return [ColumnMap(at, at, *fitted) for at, fitted in zip(columns, found, strict=True) if fitted is not None]
