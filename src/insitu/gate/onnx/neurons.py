"""Clears neurons of an ONNX model that say nothing, or that nothing listens to (see `canonical/dead_neurons.py`).

Here the graph is known, so layers are joined as it says: a fully connected or
convolutional layer, then only what works on each neuron by itself, then the
next layer and nothing else. What lies between is known as well, so what a neuron
says that always says the same is known too, and is added to the next layer's bias.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from insitu.gate.canonical.dead_neurons import (
    Round,
    cleared,
    constant_units,
    dead_units,
    equal_units,
    merged_inputs,
)
from insitu.gate.canonical.precision import Array
from insitu.gate.onnx.model import Node, Tensor

# Nought in, nought out, neuron by neuron: clearing a neuron then changes nothing behind the next layer.
_BY_ITSELF = frozenset(
    {"Relu", "LeakyRelu", "Tanh", "Gelu", "Erf", "Identity", "Dropout", "Elu", "Selu", "Sigmoid", "HardSwish", "Mish",
     "Softplus", "Softsign", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"}
)  # fmt: skip
_AS_IT_IS = frozenset(
    {"Identity", "Dropout", "Flatten", "Reshape", "MaxPool", "GlobalMaxPool", "GlobalAveragePool"}
)  # fmt: skip


@dataclass(frozen=True)
class _Layer:
    node: Node
    weight: str
    bias: str  # empty: none
    out_axis: int
    in_axis: int
    output: str  # behind a bias that is added by a node of its own


def clear_dead_neurons(
    nodes: Sequence[Node], constants: Mapping[str, Tensor], outputs: set[str], rounded: Round
) -> tuple[dict[str, Tensor], bool]:
    """The constants with dead neurons cleared, and whether there were any."""
    uses = Counter(name for node in nodes for name in node.inputs)
    reads: dict[str, list[Node]] = {}
    for node in nodes:
        for name in node.inputs:
            reads.setdefault(name, []).append(node)
    layers = {id(node): layer for node in nodes if (layer := _layer(node, constants, reads, uses)) is not None}
    copies = dict(constants)
    for layer in reversed(list(layers.values())):
        joint = _joint(layer, reads, layers, outputs)
        if joint is not None:
            _clear(joint, copies, rounded)
    changed = any(not np.array_equal(copies[name].values, constants[name].values, equal_nan=True) for name in constants)
    return copies, changed


def _layer(
    node: Node, constants: Mapping[str, Tensor], reads: Mapping[str, list[Node]], uses: Mapping[str, int]
) -> _Layer | None:
    if node.operator not in ("Gemm", "MatMul", "Conv") or len(node.inputs) < 2:
        return None
    weight = node.inputs[1]
    if weight not in constants or uses[weight] != 1 or constants[weight].values.dtype.kind != "f":
        return None
    if constants[weight].values.ndim < 2 or _whole(node, "transA") or _whole(node, "group", 1) != 1:
        return None
    bias = node.inputs[2] if len(node.inputs) > 2 else ""
    output = node.outputs[0]
    if node.operator == "MatMul":
        if constants[weight].values.ndim != 2:
            return None
        after = reads.get(output, [])
        if len(after) == 1 and after[0].operator == "Add":
            other = [name for name in after[0].inputs if name != output]
            if len(other) == 1 and other[0] in constants:
                bias, output = other[0], after[0].outputs[0]
        return None if bias and uses[bias] != 1 else _Layer(node, weight, bias, 1, 0, output)
    if bias and uses[bias] != 1:
        return None
    outward = node.operator == "Conv" or bool(_whole(node, "transB"))
    return _Layer(node, weight, bias, 0 if outward else 1, 1 if outward else 0, output)


@dataclass(frozen=True)
class _Joint:
    """A layer, the one layer behind it, and what lies between them."""

    layer: _Layer
    between: tuple[Node, ...]
    following: _Layer


def _joint(
    layer: _Layer, reads: Mapping[str, list[Node]], layers: Mapping[int, _Layer], outputs: set[str]
) -> _Joint | None:
    """None if something else listens to the layer, or mixes its neurons before the next."""
    name = layer.output
    between: list[Node] = []
    while name not in outputs and len(readers := reads.get(name, [])) == 1:
        node = readers[0]
        found = layers.get(id(node))
        if found is not None and node.inputs[0] == name:
            return _Joint(layer, tuple(between), found)
        if node.operator not in _BY_ITSELF and node.operator not in ("Flatten", "Reshape"):
            return None
        between.append(node)
        name = node.outputs[0]
    return None


def _clear(joint: _Joint, constants: dict[str, Tensor], rounded: Round) -> None:
    layer, following = joint.layer, joint.following
    weight, after = constants[layer.weight].values, constants[following.weight].values
    units = weight.shape[layer.out_axis]
    each, rest = divmod(after.shape[following.in_axis], units)
    bias = constants[layer.bias].values if layer.bias in constants else None
    if rest or not each or (bias is not None and bias.shape != (units,)) or (layer.bias and bias is None):
        return
    first, twins = equal_units(weight, bias, out_axis=layer.out_axis)
    if twins.any():
        after = merged_inputs(after, first, each, following.in_axis, rounded)
    mute = _say_it_once(joint, constant_units(weight, bias, out_axis=layer.out_axis), bias, after, constants, rounded)
    after = cleared(after, np.repeat(mute, each), following.in_axis)
    dead = mute | twins | dead_units(weight, bias, after, out_axis=layer.out_axis, in_axis=following.in_axis)
    if not dead.any() or dead.all():
        return
    constants[following.weight] = replace(
        constants[following.weight], values=cleared(after, np.repeat(dead, each), following.in_axis)
    )
    constants[layer.weight] = replace(constants[layer.weight], values=cleared(weight, dead, layer.out_axis))
    if bias is not None:
        constants[layer.bias] = replace(constants[layer.bias], values=cleared(bias, dead, 0))


def _say_it_once(
    joint: _Joint, constant: Array, bias: Array | None, after: Array, constants: dict[str, Tensor], rounded: Round
) -> Array:
    """Which units may fall silent: what they always say is nothing, or was added to the next layer's bias."""
    said = _said(joint.between, np.zeros(len(constant)) if bias is None else bias.astype(np.float64))
    if said is None or constant.all():
        return np.zeros(len(constant), dtype=bool)
    speaks = constant & (said != 0)
    following = joint.following
    if not speaks.any():
        return constant
    target = constants.get(following.bias)
    if following.node.operator == "Conv" or target is None or target.values.ndim != 1 or _is_scaled(following.node):
        return constant & ~speaks  # at its borders a convolution sees zeros, and not what the neuron says
    inputs = np.moveaxis(after, following.in_axis, 0)
    share = np.repeat(np.where(speaks, said, 0.0), len(inputs) // len(constant)) @ inputs.astype(np.float64)
    if share.shape != target.values.shape:
        return constant & ~speaks
    values = rounded((target.values + share).astype(target.values.dtype))
    constants[following.bias] = replace(target, values=values)
    return constant


def _said(between: Sequence[Node], values: Array) -> Array | None:
    """What comes of constants on their way to the next layer; None if one of the operators is not reckoned here."""
    for node in between:
        if node.operator == "Relu":
            values = np.maximum(values, 0)
        elif node.operator == "Tanh":
            values = np.tanh(values)
        elif node.operator == "Sigmoid":
            values = 1 / (1 + np.exp(np.minimum(-values, 700)))
        elif node.operator not in _AS_IT_IS:
            return None
    return values


def _is_scaled(node: Node) -> bool:
    """A Gemm may have factors before its product and its bias."""
    return any(name in node.attributes and node.attributes[name].value != 1.0 for name in ("alpha", "beta"))


def _whole(node: Node, name: str, default: int = 0) -> int:
    found = node.attributes.get(name)
    return found.value if found is not None and isinstance(found.value, int) else default
