"""Clears neurons of an ONNX model that nothing listens to (see `canonical/dead_neurons.py`).

Here the graph is known, so layers are joined as it says: a fully connected or
convolutional layer, then only what works on each neuron by itself, then the
next layer and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from insitu.gate.canonical.dead_neurons import dead_units
from insitu.gate.canonical.precision import Array
from insitu.gate.onnx.model import Node, Tensor

# Nought in, nought out, neuron by neuron: clearing a neuron then changes nothing behind the next layer.
_BY_ITSELF = frozenset(
    {"Relu", "LeakyRelu", "Tanh", "Gelu", "Erf", "Identity", "Dropout", "Elu", "Selu", "Sigmoid", "HardSwish", "Mish",
     "Softplus", "Softsign", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"}
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
    nodes: Sequence[Node], constants: Mapping[str, Tensor], outputs: set[str]
) -> tuple[dict[str, Tensor], bool]:
    """The constants with dead neurons cleared, and whether there were any."""
    uses = Counter(name for node in nodes for name in node.inputs)
    reads: dict[str, list[Node]] = {}
    for node in nodes:
        for name in node.inputs:
            reads.setdefault(name, []).append(node)
    layers = {id(node): layer for node in nodes if (layer := _layer(node, constants, reads, uses)) is not None}
    cleared = dict(constants)
    for layer in reversed(list(layers.values())):
        following = _following(layer, reads, layers, outputs)
        if following is not None:
            _clear(layer, following, cleared)
    changed = any(
        not np.array_equal(cleared[name].values, constants[name].values, equal_nan=True) for name in constants
    )
    return cleared, changed


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
        return _Layer(node, weight, bias, 1, 0, output)
    outward = node.operator == "Conv" or bool(_whole(node, "transB"))
    return _Layer(node, weight, bias, 0 if outward else 1, 1 if outward else 0, output)


def _following(
    layer: _Layer, reads: Mapping[str, list[Node]], layers: Mapping[int, _Layer], outputs: set[str]
) -> _Layer | None:
    """The one layer behind this one, with nothing between them that mixes neurons."""
    name = layer.output
    while name not in outputs and len(readers := reads.get(name, [])) == 1:
        node = readers[0]
        found = layers.get(id(node))
        if found is not None and node.inputs[0] == name:
            return found
        if node.operator not in _BY_ITSELF and node.operator not in ("Flatten", "Reshape"):
            return None
        name = node.outputs[0]
    return None


def _clear(layer: _Layer, following: _Layer, constants: dict[str, Tensor]) -> None:
    weight, after = constants[layer.weight].values, constants[following.weight].values
    units = weight.shape[layer.out_axis]
    fits, rest = divmod(after.shape[following.in_axis], units)
    bias = constants[layer.bias].values if layer.bias in constants else None
    if rest or not fits or (bias is not None and bias.shape != (units,)):
        return
    dead = dead_units(weight, bias, after, out_axis=layer.out_axis, in_axis=following.in_axis)
    if not dead.any() or dead.all():
        return
    changes = [(layer.weight, dead, layer.out_axis), (following.weight, np.repeat(dead, fits), following.in_axis)]
    if bias is not None:
        changes.append((layer.bias, dead, 0))
    for name, which, axis in changes:
        constants[name] = replace(constants[name], values=_cleared(constants[name].values, which, axis))


def _cleared(values: Array, dead: Array, axis: int) -> Array:
    copy = np.array(values)
    np.moveaxis(copy, axis, 0)[dead] = 0
    return copy


def _whole(node: Node, name: str, default: int = 0) -> int:
    found = node.attributes.get(name)
    return found.value if found is not None and isinstance(found.value, int) else default
