"""The second scan: runs of a dataset's text, bytes and numbers that stand in what a job wrote.

`rows/scan.py` asks whether cells of one row stand together. Here nothing is known of
rows: a copied sentence, a piece of a file, a column or a picture is found as
such, by its fingerprints, anywhere in any layer that the readers unpack.

What honest outputs share with data is no finding: zeros and other repetition,
counts, staircases, phrases and headers that stand in many of the dataset's rows
(those were left out of the index), and text shorter than a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insitu.gate.contents import Data, FoundNumbers, FoundText
from insitu.gate.effort import Effort
from insitu.gate.known.data import KnownData
from insitu.gate.known.fingerprints import (
    CERTAIN_BYTES,
    PROBE_STEP,
    RUN_BYTES,
    Bytes,
    FingerprintSet,
    HashKey,
    distinct_bytes,
    fingerprints_of,
)
from insitu.gate.known.runs import LARGE, LARGE_STEP, RUN_VALUES, runs_of, telling
from insitu.gate.known.text import TEXT_STEP, normal_text

_LEAST_DIFFERENT = 8  # bytes of 24: numbers with few digits, zeros and padding have fewer
_LEAST_RUNS = 2  # of numbers: one alone could be chance, in half precision
_MOST_HITS = 20_000  # looked at closely, of one array; more say nothing more
_MOST_CHANNELS = 4
_LEAST_WIDTH, _MOST_WIDTH = 3, 34  # of rows that may lie in an array of another shape …
_MOST_LAID_OUT = 1_000_000  # … for which no more values than these are looked at
_CHECK_EVERY = 1 << 24  # bytes between two looks at the clock


@dataclass(frozen=True)
class ContentFound:
    """How much was found, and where. Never what."""

    runs: int = 0
    size_bytes: int = 0
    where: str = ""


class ContentScan:
    """Compares one output with one dataset. Give it all layers, then ask for `found`."""

    def __init__(self, known: KnownData, effort: Effort) -> None:
        self._known = known
        self._effort = effort
        self._found: list[ContentFound] = []
        self._whole: object = None  # kept, so that nothing else can be taken for it

    @property
    def found(self) -> ContentFound:
        """The place with most of it. Layers and readings of the same bytes are not added up."""
        return max(self._found, key=lambda found: found.size_bytes, default=ContentFound())

    def look_at_bytes(self, where: str, data: Data) -> None:
        """One layer, as it is. What is a part of the layer before it was looked at with that."""
        if not len(self._known.byte_prints) or len(data) < RUN_BYTES:
            return
        if isinstance(data, memoryview) and data.obj is self._whole:
            return
        self._whole = data.obj if isinstance(data, memoryview) else data
        raw = np.frombuffer(data, dtype=np.uint8)
        places = _hits(self._known.byte_prints, self._known.keys.bytes, raw, PROBE_STEP, self._effort)
        self._add(where, *_runs(_varied(raw, places), RUN_BYTES, CERTAIN_BYTES))

    def look_at_texts(self, texts: Sequence[FoundText]) -> None:
        if not len(self._known.text_prints):
            return
        for text in texts:
            normal = normal_text(text.text)
            places = _varied(normal, _hits(self._known.text_prints, self._known.keys.text, normal, 1, self._effort))
            # Two in a row, as far from each other as they are in the known text: a phrase alone is no copy.
            followed = places[np.isin(places + TEXT_STEP, places)]
            self._add(text.where, *_runs(np.union1d(followed, followed + TEXT_STEP), RUN_BYTES, RUN_BYTES))

    def look_at_numbers(self, numbers: Sequence[FoundNumbers]) -> None:
        if not len(self._known.run_prints):
            return
        for item in numbers:
            size = max((self._run_values(flat) for flat in self._ways_along(item.values)), default=0)
            if size:
                self._add(item.describe(), 1, size * item.values.dtype.itemsize)

    def _ways_along(self, values: NDArray[Any]) -> list[NDArray[Any]]:
        """The orders in which a column or a picture may stand in an array."""
        if values.dtype.kind not in "fiu" or values.size < RUN_VALUES:
            return []
        ways = [values.reshape(-1)]
        if values.ndim == 2 and min(values.shape) > 1:
            ways.append(values.T.reshape(-1))
        elif values.ndim > 2:
            if 1 < values.shape[-1] <= _MOST_CHANNELS:
                ways += list(values.reshape(-1, values.shape[-1]).T)
            if values.shape[0] > 1:  # a filter or a position a row
                ways.append(values.reshape(values.shape[0], -1).T.reshape(-1))
        for step in self._widths(values):
            ways += [values.reshape(-1)[start::step] for start in range(step)]
        if not self._known.columns:  # pictures, with their channels side by side
            ways += [values.reshape(-1)[channel::3] for channel in range(3)]
        return ways

    def _widths(self, values: NDArray[Any]) -> list[int]:
        """The widths of rows that may lie one after the other in an array, whatever its shape."""
        width = self._known.numbers.shape[1]
        every = range(_LEAST_WIDTH, min(width + 1, _MOST_WIDTH) + 1)
        if values.size * len(every) > _MOST_LAID_OUT:
            every = range(max(width - 1, _LEAST_WIDTH), width + 2)
        return [step for step in every if step != values.shape[-1] and values.size * len(every) <= _MOST_LAID_OUT]

    def _run_values(self, flat: NDArray[Any]) -> int:
        """How many values in `flat` stand in runs of the dataset."""
        step = LARGE_STEP if len(flat) > LARGE else 1
        hits: list[int] = []
        seen: set[int] = set()
        for at, hashes in runs_of(self._known.keys.runs, flat, step):
            self._effort.check_time()
            for place in self._known.run_prints.where(hashes).tolist():
                first = at + place * step
                if len(hits) < _MOST_HITS and telling(flat[first : first + RUN_VALUES]):
                    hits.append(first)
                    seen.add(int(hashes[place]))
        if len(seen) < _LEAST_RUNS:
            return 0
        return _runs(np.array(hits), RUN_VALUES, RUN_VALUES)[1]

    def _add(self, where: str, runs: int, size: int) -> None:
        if runs:
            self._found.append(ContentFound(runs, size, where))


def _hits(known: FingerprintSet, key: HashKey, data: Bytes, step: int, effort: Effort) -> NDArray[np.int64]:
    """Where in `data` known runs begin."""
    found = [np.empty(0, dtype=np.int64)]
    next_look = 0
    for at, hashes in fingerprints_of(key, data, step):
        if at >= next_look:
            effort.check_time()
            next_look = at + _CHECK_EVERY
        places = known.where(hashes)
        if len(places):
            found.append(at + places * step)
    return np.concatenate(found)


def _varied(data: Bytes, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those places whose run is not repetition."""
    parts = [places[start : start + _MOST_HITS] for start in range(0, len(places), _MOST_HITS)]
    kept = [part[distinct_bytes(data, part) >= _LEAST_DIFFERENT] for part in parts]
    return np.concatenate(kept) if kept else places


def _runs(places: NDArray[np.int64], size: int, apart: int) -> tuple[int, int]:
    """(number, total size) of the runs that hits of `size` make, when those at most `apart` belong together."""
    if not len(places):
        return 0, 0
    ordered = np.sort(places)
    gaps = np.flatnonzero(np.diff(ordered) > apart)
    starts = ordered[np.concatenate(([0], gaps + 1))]
    ends = ordered[np.concatenate((gaps, [len(ordered) - 1]))] + size
    return len(starts), int((ends - starts).sum())
