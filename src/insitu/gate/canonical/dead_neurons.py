"""Clears neurons that say nothing, or that nothing listens to: their weights could be rows of the data.

A network predicts the same with any incoming weights of a neuron whose outgoing
weights are zero, and with any outgoing weights of a neuron that never speaks, so
those weights are room for a message. Where layers follow one another, a neuron is
cleared (incoming weights, bias and outgoing weights become zero) when

- what it adds to the next layer is nothing beside what the layer's other neurons add;
- it says the same whatever comes in, since its incoming weights are zero or nothing beside
  its bias, and that bias is negative or zero: nothing, behind a rectifier.

Of neurons with the same incoming weights and bias, one speaks for all of them: how
their outgoing weights share out a sum is free as well.

A state dictionary does not say how its layers are joined. They count as a chain
only if all matrices, in the natural order of their names, fit one to the next;
anything else (branches, attention, several networks) is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from insitu.gate.canonical.precision import Array

_NOTHING = 2.0**-12  # of what the middle neuron of the layer adds
_NEVER = 2.0**-6  # of a neuron's bias: what comes in is scaled, or small, where networks learn


_MOST_ROUNDS = 20

Round = Callable[[Array], Array]


def clear_in_chain(tensors: Mapping[str, Array], rounded: Round) -> Mapping[str, Array]:
    """The tensors that changed, with dead neurons cleared. Matrices are `[out, in]` as PyTorch stores them, or `[in, out]`.

    Args:
        rounded: to the precision that the tensors have: sums of outgoing weights need it anew.
    """
    names = sorted((name for name, values in tensors.items() if _is_layer(values)), key=natural)
    layers = [tensors[name] for name in names]
    outward = _fits(layers, 0, 1) or not _fits(layers, 1, 0)
    out_axis, in_axis = (0, 1) if outward else (1, 0)
    if len(layers) < 2 or not _fits(layers, out_axis, in_axis):
        return {}
    changed = dict(tensors)
    for _ in range(_MOST_ROUNDS):  # beside fewer neurons others may be silent
        before = dict(changed)
        for at in reversed(range(len(layers) - 1)):  # from the end: a neuron that feeds only dead ones is dead too
            here, after = names[at], names[at + 1]
            bias = _bias_of(here, tensors, tensors[here].shape[out_axis])
            parts = _Parts(changed[here], None if bias is None else changed[bias], changed[after], out_axis, in_axis)
            parts = _cleared_parts(_merged(parts, rounded))
            changed[here], changed[after] = parts.incoming, parts.following
            if bias is not None and parts.bias is not None:
                changed[bias] = parts.bias
        if not _changes(before, changed):
            break
    return _changes(tensors, changed)


def _changes(before: Mapping[str, Array], after: Mapping[str, Array]) -> Mapping[str, Array]:
    return {name: one for name, one in after.items() if not np.array_equal(one, before[name], equal_nan=True)}


@dataclass(frozen=True)
class _Parts:
    """A layer and the one behind it."""

    incoming: Array
    bias: Array | None
    following: Array
    out_axis: int
    in_axis: int

    @property
    def units(self) -> int:
        return self.incoming.shape[self.out_axis]

    @property
    def each(self) -> int:
        """Of the following layer's inputs: how many come of one unit."""
        return self.following.shape[self.in_axis] // self.units


def _cleared_parts(parts: _Parts) -> _Parts:
    said = constant_units(parts.incoming, parts.bias, out_axis=parts.out_axis)
    mute = said if parts.bias is None else said & (parts.bias <= 0)
    following = cleared(parts.following, np.repeat(mute, parts.each), parts.in_axis)
    dead = mute | dead_units(parts.incoming, parts.bias, following, out_axis=parts.out_axis, in_axis=parts.in_axis)
    if not dead.any() or dead.all():
        return parts
    return replace(
        parts,
        incoming=cleared(parts.incoming, dead, parts.out_axis),
        bias=None if parts.bias is None else cleared(parts.bias, dead, 0),
        following=cleared(parts.following, np.repeat(dead, parts.each), parts.in_axis),
    )


def _merged(parts: _Parts, rounded: Round) -> _Parts:
    """With one neuron in place of each set of equal ones; the others say nothing, and nothing listens to them."""
    first, twins = equal_units(parts.incoming, parts.bias, out_axis=parts.out_axis)
    if not twins.any():
        return parts
    following = merged_inputs(parts.following, first, parts.each, parts.in_axis, rounded)
    return replace(
        parts,
        incoming=cleared(parts.incoming, twins, parts.out_axis),
        bias=None if parts.bias is None else cleared(parts.bias, twins, 0),
        following=following,
    )


def equal_units(incoming: Array, bias: Array | None, *, out_axis: int) -> tuple[Array, Array]:
    """For each unit the first one that is the same, and whether that is another one. Units of zeros are no twins."""
    rows = np.moveaxis(incoming, out_axis, 0).reshape(incoming.shape[out_axis], -1).astype(np.float64)
    if bias is not None:
        rows = np.concatenate([rows, bias.astype(np.float64)[:, None]], axis=1)
    seen: dict[bytes, int] = {}
    first = np.array([seen.setdefault((row + 0.0).tobytes(), at) for at, row in enumerate(rows)], dtype=np.int64)
    twins = (first != np.arange(len(rows))) & rows.any(axis=1)
    return np.where(twins, first, np.arange(len(rows))), twins


def merged_inputs(following: Array, first: Array, each: int, in_axis: int, rounded: Round) -> Array:
    """What listens to equal units, summed up at the first of them."""
    inputs = np.moveaxis(following, in_axis, 0)
    summed = inputs.reshape(len(first), each, *inputs.shape[1:]).astype(np.float64)
    with np.errstate(all="ignore"):  # what a job wrote may hold any number
        for at in np.flatnonzero(first != np.arange(len(first))):
            summed[first[at]] += summed[at]
            summed[at] = 0
        flat = summed.reshape(inputs.shape).astype(following.dtype)
    return rounded(np.ascontiguousarray(np.moveaxis(flat, 0, in_axis)))


def constant_units(incoming: Array, bias: Array | None, *, out_axis: int) -> Array:
    """Which units say the same whatever comes in: their incoming weights are zero, or nothing beside the bias."""
    units = incoming.shape[out_axis]
    with np.errstate(all="ignore"):
        into = np.abs(np.moveaxis(incoming, out_axis, 0).reshape(units, -1).astype(np.float64)).sum(axis=1)
        limit = np.zeros(units) if bias is None else _NEVER * np.abs(bias.astype(np.float64))
        return into <= np.nan_to_num(limit)


def dead_units(incoming: Array, bias: Array | None, following: Array, *, out_axis: int, in_axis: int) -> Array:
    """Which of a layer's units add nothing to the next layer, beside what its other units add."""
    with np.errstate(all="ignore"):  # what a job wrote may hold any number
        return _silent(incoming, bias, following, out_axis, in_axis)


def _silent(incoming: Array, bias: Array | None, following: Array, out_axis: int, in_axis: int) -> Array:
    units = incoming.shape[out_axis]
    into = np.abs(np.moveaxis(incoming, out_axis, 0).reshape(units, -1).astype(np.float64)).sum(axis=1)
    if bias is not None:
        into = into + np.abs(bias.astype(np.float64))
    outof = np.abs(np.moveaxis(following, in_axis, 0).reshape(units, -1).astype(np.float64)).max(axis=1)
    part = np.nan_to_num(into * outof, nan=np.inf)
    middle = np.median(part[part > 0]) if (part > 0).any() else 0.0
    return (part <= _NOTHING * middle) | (outof == 0)


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sorts `fc10` behind `fc2`."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.findall(r"[0-9]+|[^0-9]+", name)]


def _is_layer(values: Array) -> bool:
    return values.ndim in (2, 4) and values.dtype.kind == "f" and min(values.shape[:2]) > 0


def _fits(layers: Sequence[Array], out_axis: int, in_axis: int) -> bool:
    """Whether each layer takes what the one before gives; behind a flattening, a multiple of it."""
    return all(
        after.shape[in_axis] == layer.shape[out_axis]
        or (layer.ndim == 4 and after.ndim == 2 and after.shape[in_axis] % layer.shape[out_axis] == 0)
        for layer, after in pairwise(layers)
    )


def _bias_of(name: str, tensors: Mapping[str, Array], units: int) -> str | None:
    stem, _, last = name.rpartition(".")
    for other in (
        f"{stem}.bias",
        name.replace("weight", "bias"),
        name.replace("W", "b"),
        name.replace("kernel", "bias"),
    ):
        if other != name and other in tensors and last and tensors[other].shape == (units,):
            return other
    return None


def cleared(values: Array, dead: Array, axis: int) -> Array:
    """A copy with zeros in the places of `dead` along an axis."""
    copy = np.array(values)
    np.moveaxis(copy, axis, 0)[dead] = 0
    return copy
