"""Looks at bytes of no known form as if they were numbers.

The last resort for containers that no reader knows: each width and byte order
in which floats are usually stored, at every alignment. What looks nothing like
numbers is left out, so that ordinary binary files cost little.
"""

from __future__ import annotations

import numpy as np

from insitu.gate.contents import Contents, Numbers

_MIN_BYTES = 64
_DTYPES = ("<f8", ">f8", "<f4", ">f4")
_SMALLEST, _LARGEST = 1e-9, 1e15
_PLAUSIBLE = 0.5


def read_raw(data: bytes | memoryview, where: str, contents: Contents, *, aligned: bool) -> None:
    """Add what `data` may hold as floats. `aligned`: it begins with the first number."""
    if len(data) < _MIN_BYTES:
        return
    for name in _DTYPES:
        dtype = np.dtype(name)
        for offset in range(1 if aligned else dtype.itemsize):
            count = (len(data) - offset) // dtype.itemsize
            values = np.frombuffer(data, dtype=dtype, count=count, offset=offset)
            run = _plausible_run(values)
            if run is not None:
                contents.add_numbers(where, run, raw=True)


def _plausible_run(values: Numbers) -> Numbers | None:
    """The part from the first to the last value that looks like a measurement, if it is dense enough."""
    with np.errstate(all="ignore"):
        size = np.abs(values.astype(np.float64))
        good = (size > _SMALLEST) & (size < _LARGEST)
        zero = values == 0
    places = np.flatnonzero(good)
    if len(places) < 8:
        return None
    first, last = int(places[0]), int(places[-1]) + 1
    dense = np.count_nonzero(good[first:last] | zero[first:last]) / (last - first)
    return values[first:last] if dense >= _PLAUSIBLE else None
