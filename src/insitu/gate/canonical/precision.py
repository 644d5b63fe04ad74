"""Rounds a model's numbers to the policy's precision, so that low bits carry nothing.

Most low-order bits of a weight can be replaced without harming the model (arXiv
2308.15502), so they are cleared: every float keeps as many significant bits as
the policy's precision has, rounded to the nearest, ties to even (IEEE 754), and
is stored in the width in which it was written, so that loaders still load it.

| precision | significant bits | exponents |
|---|---|---|
| `bfloat16` | 8 | those of normal float32 |
| `float16` | 11 | those of normal float32: a feature may be far from zero |
| `float32` | 24 | those of normal float32 |

NaNs lose their payload and sign, zeros their sign; numbers too small become
zero and numbers too large the largest that there is. Infinities stay.

Two kinds of numbers get more, since models break without it, and both are
bounded and counted by `ceiling.py`:

- *Small arrays* (`small`): where a feature lies far from zero (a date, a year),
  an offset or a coefficient needs more than eight bits. The first
  `FINE_VALUES` values of a model in arrays of at most `SMALL` keep `_FINER`
  bits more. Not for networks in safetensors, which train on scaled inputs.
- *Thresholds* of trees (`on_grid`): each takes the nearer of the rounded number
  and the nearest of `GRID_STEPS` equal steps between the smallest and the largest
  threshold on its feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insitu.gate.policy.values import Precision

Array = NDArray[Any]
Floats = NDArray[np.float64]

SIGNIFICANT: Mapping[Precision, int] = {"bfloat16": 8, "float16": 11, "float32": 24}
SMALL = 256  # values in an array that counts as small
FINE_VALUES = 512  # of a whole model
GRID_STEPS = 4096
_FINER = 8
_LARGEST_EXPONENT = 127  # float32's: every precision here fits
_SMALLEST_EXPONENT = -126


@dataclass
class Rounding:
    """Rounds the numbers of one model. Mutable: what small arrays may have more is spent.

    Without a precision numbers stay as they are, but for the payload of NaNs and the sign of zeros.
    """

    precision: Precision | None
    _fine_left: int = field(default=FINE_VALUES, init=False)

    @property
    def fine_left(self) -> int:
        """Values that may still have more bits."""
        return self._fine_left

    def weights(self, values: Array) -> Array:
        """`values` at the policy's precision, in their own width. Integers stay."""
        return self._rounded(values, 0)

    def small(self, values: Array) -> Array:
        """The same, with more bits for a small array while there are some left."""
        if values.dtype.kind != "f" or values.size > min(SMALL, self._fine_left):
            return self.weights(values)
        self._fine_left -= values.size
        return self._rounded(values, _FINER)

    def on_grid(self, values: Floats, groups: Array) -> Floats:
        """Thresholds, each on the grid of its group (its feature) or rounded, whichever is nearer."""
        rounded = self.weights(values)
        if self.precision is None:
            return rounded
        result = np.array(rounded)
        for group in np.unique(groups):
            chosen = np.flatnonzero((groups == group) & np.isfinite(values))
            if len(chosen):
                result[chosen] = _nearer(values[chosen], rounded[chosen])
        return result

    def _rounded(self, values: Array, more: int) -> Array:
        if values.dtype.kind != "f":
            return values
        plain = _plain(values)
        if self.precision is None:
            return plain
        kept = min(SIGNIFICANT[self.precision] + more, 24)
        return _round_bits(plain, kept)


def _plain(values: Array) -> Array:
    """Without payloads of NaNs and signs of zeros."""
    plain = np.array(values, dtype=values.dtype.newbyteorder("="))
    unclear = np.isnan(plain)
    if unclear.any():
        plain[unclear] = np.nan
    plain += 0.0  # minus zero and zero make zero
    return plain


def _round_bits(values: Array, kept: int) -> Array:
    """Round to `kept` significant bits by adding half of the last kept one to the bits, ties to even."""
    if values.dtype.itemsize == 2:  # half precision has 11 bits, and exponents that all fit
        return _round_bits(values.astype(np.float32), kept).astype(values.dtype) if kept < 11 else values
    wide = values.dtype.itemsize == 8
    bits, significand = (np.uint64, 53) if wide else (np.uint32, 24)
    drop = significand - kept
    raw = values.view(bits)
    finite = np.isfinite(values)
    if drop:
        half = bits((1 << (drop - 1)) - 1)
        last = (raw >> bits(drop)) & bits(1)
        with np.errstate(over="ignore"):
            raw = (raw + half + last) & ~bits((1 << drop) - 1)
    rounded = raw.view(values.dtype)
    if not finite.all():
        rounded = np.where(finite, rounded, values)
    return _in_range(rounded, finite, kept)


def _in_range(rounded: Array, finite: Array, kept: int) -> Array:
    """Exponents of normal float32: too small is zero, too large is the largest."""
    size = np.abs(rounded)
    smallest = rounded.dtype.type(2.0**_SMALLEST_EXPONENT)
    largest = rounded.dtype.type(np.ldexp(2 - 2.0 ** (1 - kept), _LARGEST_EXPONENT))
    if ((size < smallest) & (size > 0)).any():
        rounded = np.where(size < smallest, rounded.dtype.type(0), rounded)
    if (finite & (size > largest)).any():
        rounded = np.where(finite, np.clip(rounded, -largest, largest), rounded)
    return np.ascontiguousarray(rounded + rounded.dtype.type(0))  # what became zero has no sign


def _nearer(values: Floats, rounded: Floats) -> Floats:
    low, high = values.min(), values.max()
    step = (high - low) / GRID_STEPS
    if not np.isfinite(step) or step <= 0:  # one value: an end of the grid, as it is
        return np.array(values.astype(np.float32), dtype=np.float64)
    on_grid = grid_points(low, high, np.rint((values - low) / step))
    return np.where(np.abs(rounded - values) <= np.abs(on_grid - values), rounded, on_grid)


def grid_points(low: float, high: float, steps: Floats) -> Floats:
    """Points of a grid in single precision: the ends are exact, so that rounding twice is rounding once."""
    inner = np.float32(low) + steps / GRID_STEPS * (np.float64(np.float32(high)) - np.float64(np.float32(low)))
    points = np.asarray(inner, dtype=np.float32).astype(np.float64)
    points = np.where(steps <= 0, np.float64(np.float32(low)), points)
    return np.where(steps >= GRID_STEPS, np.float64(np.float32(high)), points)
