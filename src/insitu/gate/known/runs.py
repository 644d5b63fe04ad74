"""Fingerprints of runs of numbers that scaling and shifting leaves as they are.

Sixteen values in a row, less the smallest and divided by their range, are the
same numbers whatever was multiplied and added before: standardised, divided by
255, inverted, in double, single or half precision. They are rounded coarsely,
turned so that more of them are small than large, and hashed. So a column in the
dataset's order, or a picture's pixels, are found without a search for the map.

Rounding is not to whole parts of the range, so that the few values that pixels
can take lie away from its edges. A value near an edge may still fall on the other
side in half precision; of many runs, most agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insitu.gate.known.fingerprints import Bytes, HashKey, Words, hash_words

RUN_VALUES = 16
KNOWN_VALUES_STEP = 8
CERTAIN_VALUES = 2 * KNOWN_VALUES_STEP + RUN_VALUES - 1
"""An exact copy of so many values in a row, under one map, has two fingerprints and is found for certain."""
LARGE_STEP = 5
"""Arrays of more than `LARGE` values are compared at every fifth place: found for certain are then five times more."""
LARGE = 2_000_000

_LEVELS = np.float32(37.26)
_LEAST_DIFFERENT = 7  # of the sixteen: steps, counts and flags have fewer
_CHUNK = 1 << 12
_DENSE = 2  # runs so close to each other have the smallest value in common


def runs_of(key: HashKey, values: NDArray[Any], step: int) -> Iterator[tuple[int, Words]]:
    """The fingerprints of every `step`-th run, in chunks: (the first one's place, hashes)."""
    count = max(0, (len(values) - RUN_VALUES) // step + 1)
    for done in range(0, count, _CHUNK):
        some, at = min(_CHUNK, count - done), done * step
        words = _levels(values[at : at + (some - 1) * step + RUN_VALUES], step).view("<u8")
        yield at, hash_words(key, [np.ascontiguousarray(words[:, 0]), np.ascontiguousarray(words[:, 1])])


def _levels(values: NDArray[Any], step: int) -> Bytes:
    """runs × values: which of the levels between a run's smallest and largest value each of its values has."""
    with np.errstate(all="ignore"):  # what a job wrote may hold any bit pattern
        part = np.asarray(values, dtype=np.float64)
        # The values of a run below each other: what is done to all runs is then done to what lies side by side.
        runs = np.array(np.lib.stride_tricks.sliding_window_view(part, RUN_VALUES)[::step].T, order="C")
        if step <= _DENSE:
            low = _over_runs(np.minimum, part)[::step]
            extent = _over_runs(np.maximum, part)[::step] - low
        else:
            low = runs.min(axis=0)
            extent = runs.max(axis=0) - low
        runs -= low
        runs /= extent
        shares: NDArray[np.float32] = runs.astype(np.float32)
        if not np.isfinite(extent).all() or not extent.all():
            np.nan_to_num(shares, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        turned = shares.sum(axis=0) > RUN_VALUES / 2
        np.abs(turned.astype(np.float32) - shares, out=shares)  # 1 - share where it is turned
        shares *= _LEVELS
        return np.ascontiguousarray(np.rint(shares, out=shares).astype(np.uint8).T)


def _over_runs(smaller: np.ufunc, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest (or largest) value of each run: of two, of four, of eight, of sixteen, each from those before."""
    size = 1
    while size < RUN_VALUES:
        values = smaller(values[:-size], values[size:])
        size *= 2
    return values


def telling(values: NDArray[Any]) -> bool:
    """Whether a run says something about the data: not a staircase, a cycle, a sorted list or a handful of levels."""
    levels = _levels(values, 1)[0]
    steps = np.diff(levels.astype(np.int16))
    in_order = bool(np.all(steps >= 0)) or bool(np.all(steps <= 0))
    different = min(
        len(np.unique(levels)), len(np.unique(steps)) + 2
    )  # a cycle has many levels, and two or three steps
    return different >= _LEAST_DIFFERENT and not in_order
