"""Looks at bytes of no known form as if they were numbers.

The last resort for containers that no reader knows, and for whole numbers that
may be the bits of others: each width and byte order in which floats are usually
stored, at every alignment. What looks nothing like numbers is left out, so that
ordinary binary files cost little. Of two bytes nearly any are a number; those
count where hardly one is infinite or none, and all lie in one stretch of sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insitu.gate.contents import Contents, Data, FoundNumbers, Numbers

_MIN_BYTES = 64
_BRAIN = "bfloat16"
_FORMS = (("<f8", 8), (">f8", 8), ("<f4", 4), (">f4", 4), ("<f2", 2), (">f2", 2), (f"<{_BRAIN}", 2), (f">{_BRAIN}", 2))
_SMALLEST, _LARGEST = 1e-9, 1e15
_SMALLEST_HALF = 2.0**-14  # below it half precision has fewer bits, as whole numbers taken for it have
_PLAUSIBLE = 0.5
_MOST_ODD = 1 / 100  # of two-byte numbers: infinite or none. Of random bytes one in 32 is, in half precision
_OCTAVES = 24  # that measurements of one table span; bfloat16 could span 254
_WITHIN = 0.9


def read_raw(data: Data, where: str, contents: Contents, *, aligned: bool) -> None:
    """Add what `data` may hold as floats. `aligned`: it begins with the first number."""
    if len(data) < _MIN_BYTES:
        return
    for form, size in _FORMS:
        for offset in range(1 if aligned else size):
            run = _plausible_run(_floats(np.frombuffer(data, np.uint8, len(data) - offset, offset), form, size), size)
            if run is not None:
                contents.add_numbers(where, run, raw=True)


def read_bits(found: Sequence[FoundNumbers], contents: Contents) -> None:
    """Add what whole numbers may be the bits of, in the shape that they have and as one list."""
    for item in found:
        values = item.values
        if values.dtype.kind not in "iu" or values.nbytes < _MIN_BYTES:
            continue
        for shaped in _shaped(values):
            contents.add_numbers(f"{item.where}: as the bits of floats", shaped)
        read_raw(np.ascontiguousarray(values).tobytes(), f"{item.where}: as bytes", contents, aligned=True)


def _shaped(values: Numbers) -> Iterator[Numbers]:
    """Floats that have the array's axes; the last one shorter, where several numbers are the bits of one."""
    if values.ndim < 2:
        return
    width = values.shape[-1] * values.dtype.itemsize
    raw = np.ascontiguousarray(values).view(np.uint8).reshape(*values.shape[:-1], width)
    for form, size in _FORMS:
        if size >= values.dtype.itemsize and width % size == 0:
            floats = _floats(raw.reshape(-1), form, size)
            if _plausible_run(floats, size) is not None:
                yield floats.reshape(*values.shape[:-1], width // size)


def _floats(raw: NDArray[np.uint8], form: str, size: int) -> Numbers:
    whole = raw[: len(raw) // size * size]
    if not form.endswith(_BRAIN):
        return np.frombuffer(whole, dtype=form)
    halves = np.frombuffer(whole, dtype=f"{form[0]}u2").astype(np.uint32)
    return (halves << np.uint32(16)).view(np.float32)


def _plausible_run(values: Numbers, size: int) -> Numbers | None:
    """The part from the first to the last value that looks like a measurement, if it is dense enough."""
    with np.errstate(all="ignore"):
        magnitude = np.abs(values.astype(np.float64))
        smallest = _SMALLEST_HALF if size == 2 else _SMALLEST
        good = (magnitude > smallest) & (magnitude < _LARGEST)
        zero = values == 0
    places = np.flatnonzero(good)
    if len(places) < 8 or (size == 2 and not _of_one_kind(magnitude, magnitude[good])):
        return None
    first, last = int(places[0]), int(places[-1]) + 1
    dense = np.count_nonzero(good[first:last] | zero[first:last]) / (last - first)
    return values[first:last] if dense >= _PLAUSIBLE else None


def _of_one_kind(magnitude: NDArray[np.float64], good: NDArray[np.float64]) -> bool:
    if np.count_nonzero(~np.isfinite(magnitude)) > _MOST_ODD * len(magnitude):
        return False
    octaves: NDArray[Any] = np.sort(np.frexp(good)[1])
    within = np.searchsorted(octaves, octaves + _OCTAVES, side="left") - np.arange(len(octaves))
    return bool(within.max() >= _WITHIN * len(magnitude))
