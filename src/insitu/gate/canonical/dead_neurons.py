"""Clears neurons that nothing listens to: their incoming weights could be rows of the data.

A network predicts the same with any incoming weights of a neuron whose outgoing
weights are zero, so those weights are room for a message. Where layers follow
one another, a neuron is cleared (incoming weights, bias and outgoing weights
become zero) when what it adds to the next layer is nothing beside what the
layer's other neurons add.

A state dictionary does not say how its layers are joined. They count as a chain
only if all matrices, in the natural order of their names, fit one to the next;
anything else (branches, attention, several networks) is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from insitu.gate.canonical.precision import Array

_NOTHING = 2.0**-12  # of what the middle neuron of the layer adds


def clear_in_chain(tensors: Mapping[str, Array]) -> Mapping[str, Array]:
    """The tensors that changed, with dead neurons cleared. Matrices are `[out, in]` as PyTorch stores them, or `[in, out]`."""
    names = sorted((name for name, values in tensors.items() if _is_layer(values)), key=natural)
    layers = [tensors[name] for name in names]
    outward = _fits(layers, 0, 1) or not _fits(layers, 1, 0)
    if len(layers) < 2 or not _fits(layers, 0 if outward else 1, 1 if outward else 0):
        return {}
    changed: dict[str, Array] = {}
    for at in reversed(range(len(layers) - 1)):  # from the end: a neuron that feeds only dead ones is dead too
        here, after = names[at], names[at + 1]
        out_axis = 0 if outward else 1
        bias = _bias_of(here, tensors, tensors[here].shape[out_axis])
        incoming, following = changed.get(here, tensors[here]), changed.get(after, tensors[after])
        dead = dead_units(
            incoming, None if bias is None else tensors[bias], following, out_axis=out_axis, in_axis=1 - out_axis
        )
        if not dead.any() or dead.all():
            continue
        changed[here] = _cleared(incoming, dead, out_axis)
        changed[after] = _cleared(following, np.repeat(dead, following.shape[1 - out_axis] // len(dead)), 1 - out_axis)
        if bias is not None:
            changed[bias] = _cleared(changed.get(bias, tensors[bias]), dead, 0)
    return {name: values for name, values in changed.items() if not np.array_equal(values, tensors[name])}


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


def _cleared(values: Array, dead: Array, axis: int) -> Array:
    copy = np.array(values)
    np.moveaxis(copy, axis, 0)[dead] = 0
    return copy
