"""Sorts more than fits into memory: sorted runs on disk, merged block by block (external merge sort, Knuth, TAOCP 3, 5.4).

Used for what an index keeps in order: fingerprints, cells and hashes. How much
memory it takes is set by whoever builds; the result does not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]
Records = tuple[Values, ...]
"""Arrays of one length: what is sorted by, and what belongs to it."""

_LEAST_RECORDS = 1024
_WORK_FACTOR = 5  # sorting holds the records, their order, and a sorted copy
_BARE_WORK_FACTOR = 3  # nothing belongs to them: they are sorted where they are put together
_RUN = 4096
"""Values that are in order for so long, on average, are merged rather than sorted."""
_U64 = np.uint64


def order_of(values: Values) -> NDArray[np.intp]:
    """The places of `values` (float64 without NaN, or uint64) in ascending order; equal ones stay in theirs.

    Into one word goes what leads each value's bits, and behind it the value's place: plain words are sorted several
    times as fast as places are by what they point to, above all where the processor compares many of them at once
    (Blacher et al.: Vectorized and performance-portable Quicksort, 2022). Of what the leading bits leave together, the
    rest is compared.
    """
    keys = values.view(_U64)
    if values.dtype.kind == "f":  # so that the bits of negative numbers are in order too, and the two zeros are one
        keys = (values + 0.0).view(_U64)
        sign = (keys.view(np.int64) >> np.int64(63)).view(_U64)
        keys ^= sign | _U64(1 << 63)
    if len(keys) < 2:
        return np.arange(len(keys))
    if np.count_nonzero(keys[1:] < keys[:-1]) * _RUN < len(keys):
        return np.argsort(keys, kind="stable")
    low = keys.min()
    places = (len(keys) - 1).bit_length()  # bits
    left_out = max(0, int(keys.max() - low).bit_length() + places - 64)
    packed: NDArray[np.uint64] = keys - low
    packed >>= _U64(left_out)
    packed <<= _U64(places)
    packed |= np.arange(len(keys), dtype=_U64)
    packed.sort()
    order: NDArray[np.intp] = (packed & _U64((1 << places) - 1)).view(np.intp)
    if left_out:
        found: Values = keys.take(order)
        if bool((found[1:] < found[:-1]).any()):
            packed >>= _U64(places)
            _mend(order, found, packed)
    return order


def _mend(order: NDArray[np.intp], found: Values, leading: Values) -> None:
    """Put in order what is so in its leading bits only: each group of equal ones is a part of the whole."""
    same = leading[1:] == leading[:-1]
    grouped = np.zeros(len(found), dtype=bool)
    grouped[1:] = same
    grouped[:-1] |= same
    places = np.flatnonzero(grouped)
    order[places] = order[places[np.argsort(found[places], kind="stable")]]


class ExternalSort:
    """Takes records in any order and gives them back in ascending order of their first part."""

    def __init__(self, folder: Path, name: str, dtypes: Sequence[str], *, memory_bytes: int) -> None:
        self._folder, self.name = folder, name
        self._dtypes = [np.dtype(dtype) for dtype in dtypes]
        size = sum(dtype.itemsize for dtype in self._dtypes)
        work = _WORK_FACTOR if len(dtypes) > 1 else _BARE_WORK_FACTOR
        self._most = max(_LEAST_RECORDS, memory_bytes // (work * size))
        self._kept: list[Records] = []
        self._held = 0
        self._ready = False  # what is held is in order
        self._runs: list[list[Path]] = []

    def add(self, *records: Values) -> None:
        for start in range(0, len(records[0]), self._most):
            part = tuple(np.array(values[start : start + self._most]) for values in records)
            if self._held + len(part[0]) > self._most:
                self._write_run()
            self._kept.append(part)
            self._ready = False
            self._held += len(part[0])

    def clear(self) -> None:
        """Forget all that was added."""
        self._kept, self._held = [], 0
        for paths in self._runs:
            for path in paths:
                path.unlink(missing_ok=True)
        self._runs = []

    def sort(self) -> None:
        """Put what is held in order. `blocks` does so too; this can be done elsewhere before."""
        if self._held:
            held = self._held
            self._kept, self._held, self._ready = [self._sorted()], held, True

    def blocks(self) -> Iterator[Records]:
        """All records, ascending. Ask once; what was on disk for it is gone afterwards."""
        if not self._runs:
            records = self._sorted()
            for start in range(0, len(records[0]), self._most):
                yield tuple(values[start : start + self._most] for values in records)
            return
        self._write_run()
        try:
            yield from self._merged()
        finally:
            self.clear()

    def _sorted(self) -> Records:
        if len(self._kept) == 1 and self._ready:
            records = self._kept[0]
            self._kept, self._held, self._ready = [], 0, False
            return records
        parts = zip(*self._kept, strict=True) if self._kept else ([np.empty(0, dtype)] for dtype in self._dtypes)
        records = [np.concatenate(part) for part in parts]
        self._kept, self._held = [], 0
        return _in_order(records)

    def _write_run(self) -> None:
        records = self._sorted()
        if len(records[0]):
            stem = f".{self.name}-{len(self._runs)}"
            paths = [self._folder / f"{stem}-{part}.run" for part in range(len(records))]
            for values, path in zip(records, paths, strict=True):
                values.tofile(path)
            self._runs.append(paths)

    def _merged(self) -> Iterator[Records]:
        """Of each run a piece is in sight; what is not above the smallest end of a piece is next."""
        runs: list[list[Values]] = [
            [np.memmap(path, dtype=dtype, mode="r") for path, dtype in zip(paths, self._dtypes, strict=True)]
            for paths in self._runs
        ]
        places = [0] * len(runs)
        piece = max(64, self._most // len(runs))
        while any(place < len(run[0]) for run, place in zip(runs, places, strict=True)):
            sights: list[Values] = [
                np.asarray(run[0][place : place + piece]) for run, place in zip(runs, places, strict=True)
            ]
            more = [place + len(sight) < len(run[0]) for run, place, sight in zip(runs, places, sights, strict=True)]
            cuts = _cuts(sights, more)
            pieces = [
                tuple(values[place : place + cut] for values in run)
                for run, place, cut in zip(runs, places, cuts, strict=True)
            ]
            taken: list[Values] = [np.concatenate(part) for part in zip(*pieces, strict=True)]
            places = [place + cut for place, cut in zip(places, cuts, strict=True)]
            yield _in_order(taken)


def _cuts(sights: Sequence[Values], more: Sequence[bool]) -> list[int]:
    """How many values of each sight are next: what is not above the smallest end of those that have more behind it.

    Of values that equal this end, a later run's wait until an earlier one has shown all of its own.
    """
    ends: list[Any] = [sight[-1] for sight, goes_on in zip(sights, more, strict=True) if goes_on]
    if not ends:
        return [len(sight) for sight in sights]
    smallest = np.array([min(ends)])
    cuts: list[int] = []
    side: Literal["left", "right"] = "right"
    for sight, goes_on in zip(sights, more, strict=True):
        cuts.append(int(np.searchsorted(sight, smallest, side=side)[0]))
        if goes_on and sight[-1] == smallest[0]:
            side = "left"
    return cuts


def _in_order(records: Sequence[Values]) -> Records:
    if len(records) == 1:  # equal ones are the same, and nothing belongs to them
        records[0].sort()
        return tuple(records)
    order = order_of(records[0])
    return tuple(values.take(order) for values in records)


def without_common(blocks: Iterator[Records], *, most: int) -> Iterator[Values]:
    """Of ascending values each one once, but none of those that stand there more than `most` times."""
    last, repeats = np.empty(0, dtype=_U64), 0
    for (block,) in blocks:
        if not len(block):
            continue
        values, counts = _counted(block)
        if len(last) and values[0] == last[0]:
            counts[0] += repeats
        elif len(last) and repeats <= most:
            yield last
        last, repeats = values[-1:], int(counts[-1])  # the next block may begin with more of it
        yield values[:-1] if counts[:-1].max(initial=0) <= most else values[:-1][counts[:-1] <= most]
    if len(last) and repeats <= most:
        yield last


def _counted(block: Values) -> tuple[Values, NDArray[np.int64]]:
    """Each of ascending values once, and how often it stands there."""
    is_new = np.empty(len(block), dtype=bool)
    is_new[0] = True
    np.not_equal(block[1:], block[:-1], out=is_new[1:])
    first = np.flatnonzero(is_new)
    counts = np.empty(len(first), dtype=np.int64)
    np.subtract(first[1:], first[:-1], out=counts[:-1])
    counts[-1] = len(block) - first[-1]
    return block if len(first) == len(block) else block[first], counts
