"""Rewrites ONNX models from an allow-list of fields and operators (`onnx/model.py`, `onnx/operators.py`).

Names of nodes, documentation, producer, metadata, shapes that a runtime infers,
unused constants, nodes that no output needs, and the order of everything are
room for a message. In the copy:

- nodes stand in the order of a walk back from the outputs, and only those that an output needs;
- inner tensors are `t1`, `t2`, …, constants `c1`, `c2`, … in that order;
- inputs and outputs keep their names if they are ordinary;
- numbers are rounded, in constants and attributes alike, and stored in one way (`raw_data`);
- trees are rewritten by `onnx/trees.py`, and neurons that nothing listens to are cleared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from insitu.gate.canonical.form import Canonical, Leaves, ObjectionError, is_identifier
from insitu.gate.canonical.precision import Rounding
from insitu.gate.ceiling import bits_of_array, bytes_of_text
from insitu.gate.contents import NotReadableError
from insitu.gate.effort import Effort
from insitu.gate.onnx.model import (
    FLOAT,
    FLOATS,
    INT,
    INTS,
    Attribute,
    Model,
    Node,
    Tensor,
    TypeOf,
    parse_model,
)
from insitu.gate.onnx.neurons import clear_dead_neurons
from insitu.gate.onnx.operators import ATTRIBUTES, MEMORY_OF_ROWS, ML
from insitu.gate.onnx.trees import TREES, rewrite_trees
from insitu.gate.onnx.writing import write_model

_KNOWN = (
    " ".join(ATTRIBUTES).encode()
    + b"Gemm Relu Gemm Conv Relu MaxPool Flatten Gemm Softmax float_input label probabilities input output"
)
_OURS = re.compile(r"[tc][0-9]+")
_MOST_OPERATORS = 20_000
# What hands an input on as it is: constants that meet it may need more bits than weights do.
_HANDS_ON = frozenset(
    {"Cast", "Identity", "Reshape", "Flatten", "Concat", "Squeeze", "Unsqueeze", f"{ML}:FeatureVectorizer"}
)


def rewrite_onnx(data: bytes, rounding: Rounding, effort: Effort) -> Canonical:
    """The canonical form of an ONNX file.

    Raises:
        NotReadableError: it isn't one, or uses a part of the format or an operator that a copy can't have.
        OutOfEffortError: it is larger than the judgement's bounds.
    """
    model = parse_model(data)
    nodes = _needed(model, effort)
    for node in nodes:
        _check(node)
    rounded = _Rounded(model, rounding)
    nodes = [rounded.node(node) for node in nodes]
    outputs = {name for name, _ in model.outputs}
    constants, cleared = clear_dead_neurons(nodes, rounded.constants, outputs, rounding.weights)
    named = _named(replace(model, nodes=tuple(nodes), constants=constants))
    return Canonical(
        write_model(named),
        "onnx",
        rounded.bits + _structure_bits(named) + sum(_bits_of_tensor(one) for one in named.constants.values()),
        leaves=rounded.leaves,
        dropped=("unused parts of the graph",)
        * (len(nodes) < len(model.nodes) or len(constants) < len(model.constants))
        + ("dead neurons",) * cleared,
    )


def _needed(model: Model, effort: Effort) -> list[Node]:
    """The nodes that an output needs, each behind those that it needs: a walk back from the outputs."""
    if len(model.nodes) > _MOST_OPERATORS:
        raise NotReadableError("the model has too many operators")
    made = {name: node for node in model.nodes for name in node.outputs if name}
    given = {name for name, _ in model.inputs} | set(model.constants)
    if len(made) != sum(bool(name) for node in model.nodes for name in node.outputs) or given & set(made):
        raise NotReadableError("a name stands for two things")
    done: dict[int, Node] = {}
    open_: set[int] = set()
    stack = [(name, False) for name, _ in reversed(model.outputs)]
    while stack:
        name, ready = stack.pop()
        node = made.get(name)
        if node is None:
            if name not in given:
                raise NotReadableError("a tensor comes from nowhere")
        elif ready:
            done.setdefault(id(node), node)
            open_.discard(id(node))
        elif id(node) not in done:
            if id(node) in open_:
                raise NotReadableError("the graph runs in a circle")
            effort.spend_member()
            open_.add(id(node))
            stack.append((name, True))
            stack += [(needed, False) for needed in reversed(node.inputs) if needed]
    return list(done.values())


def _check(node: Node) -> None:
    if node.operator not in ATTRIBUTES:
        name = node.operator if re.fullmatch(r"[A-Z][A-Za-z0-9]{1,40}", node.operator) else "of another domain"
        raise ObjectionError("types", f"the operator {name} is not on the list", "use standard operators alone")
    for name in MEMORY_OF_ROWS & set(node.attributes):
        value = node.attributes[name].value
        if not isinstance(value, np.ndarray) or value.size:
            hint = "train a model that does not keep rows: linear, a tree with large leaves, a network"
            raise ObjectionError("stored-rows", "it keeps training rows as support vectors", hint)


# ── Numbers ─────────────────────────────────────────────────────────────────


@dataclass
class _Rounded:
    """Rounds constants and attributes, and counts what the attributes carry."""

    model: Model
    rounding: Rounding
    bits: int = 0
    leaves: Leaves | None = None
    constants: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    _plain: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        self._plain = {name for name, _ in self.model.inputs}

    def node(self, node: Node) -> Node:
        meets_input = any(name in self._plain for name in node.inputs)
        if meets_input and node.operator in _HANDS_ON:
            self._plain |= set(node.outputs)
        for name in node.inputs:
            if name in self.model.constants and name not in self.constants:
                self.constants[name] = self._tensor(self.model.constants[name], small=meets_input)
        attributes = {name: one for name, one in node.attributes.items() if name in ATTRIBUTES[node.operator]}
        if node.operator in TREES:
            trees = rewrite_trees(attributes, self.rounding)
            self.bits += trees.carries_bits
            self.leaves = Leaves(max(trees.leaves.most, self.leaves.most if self.leaves else 0))
            lists = {
                name: one for name, one in attributes.items() if not name.startswith(("nodes_", "class_", "target_"))
            }
            attributes = {**self._attributes(lists), **trees.attributes}
        else:
            attributes = self._attributes(attributes)
        return replace(node, attributes=dict(sorted(attributes.items())))

    def _attributes(self, attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
        return {name: self._attribute(one) for name, one in attributes.items()}

    def _attribute(self, attribute: Attribute) -> Attribute:
        value = attribute.value
        if attribute.type == FLOATS and isinstance(value, np.ndarray):
            value = self.rounding.small(value)
            self.bits += bits_of_array(value)
        elif attribute.type == FLOAT:
            value = float(self.rounding.small(np.array([value], dtype=np.float32))[0])
            self.bits += 32
        elif attribute.type == INTS and isinstance(value, np.ndarray):
            self.bits += bits_of_array(value)
        elif isinstance(value, Tensor):
            value = self._tensor(value, small=False)
            self.bits += _bits_of_tensor(value)
        elif attribute.type == INT and isinstance(value, int):
            self.bits += 2 * value.bit_length() + 2
        elif isinstance(value, bytes):
            self.bits += 8 * bytes_of_text(value)
        elif isinstance(value, list):
            self.bits += 8 * bytes_of_text(b"\n".join(value))
        return replace(attribute, value=value)

    def _tensor(self, tensor: Tensor, *, small: bool) -> Tensor:
        return replace(tensor, values=(self.rounding.small if small else self.rounding.weights)(tensor.values))


def _bits_of_tensor(tensor: Tensor) -> int:
    return bits_of_array(tensor.values) + 8 * bytes_of_text(b"\n".join(tensor.texts)) * bool(tensor.texts)


# ── Names and structure ─────────────────────────────────────────────────────


def _named(model: Model) -> Model:
    """With the copy's names, and with nothing that no node or output asks for but the inputs."""
    names = {"": ""}
    for prefix, given in (("input", model.inputs), ("output", model.outputs)):
        for number, (name, _) in enumerate(given, start=1):
            kept = is_identifier(name) and not _OURS.fullmatch(name) and name not in names.values()
            names.setdefault(name, name if kept else f"{prefix}_{number}")
    used = {name for node in model.nodes for name in node.inputs} | {name for name, _ in model.outputs}
    constants: dict[str, Tensor] = {}
    nodes: list[Node] = []
    inner = 0
    for node in model.nodes:
        for name in node.inputs:
            if name in model.constants:
                names.setdefault(name, f"c{len(constants) + 1}")
                constants[names[name]] = model.constants[name]
        for name in node.outputs:
            if name in used and name not in names:
                inner += 1
                names[name] = f"t{inner}"
        outputs = [names.get(name, "") for name in node.outputs]
        while len(outputs) > 1 and not outputs[-1]:
            outputs.pop()
        nodes.append(replace(node, inputs=tuple(names[name] for name in node.inputs), outputs=tuple(outputs)))
    domains = {ML if node.operator.startswith(ML) else "" for node in nodes}
    missing = domains - set(model.opsets)
    if missing:
        raise NotReadableError("an operator's set has no version")
    return Model(
        ir_version=model.ir_version,
        opsets={domain: model.opsets[domain] for domain in sorted(domains)},
        nodes=tuple(nodes),
        constants=constants,
        inputs=tuple((names[name], kind) for name, kind in model.inputs),
        outputs=tuple((names[name], kind) for name, kind in model.outputs),
    )


def _structure_bits(model: Model) -> int:
    """All that is neither a constant nor an attribute's value: operators, edges, names, types."""
    lines = [f"{model.ir_version} {dict(model.opsets)}"]
    lines += [
        f"{node.operator} {' '.join(node.inputs)} > {' '.join(node.outputs)} {' '.join(node.attributes)}"
        for node in model.nodes
    ]
    lines += [f"{name} {_words(kind)}" for name, kind in (*model.inputs, *model.outputs)]
    lines += [f"{one.type}" for one in model.constants.values()]
    return 8 * bytes_of_text("\n".join(lines).encode(), _KNOWN)


def _words(kind: TypeOf) -> str:
    return f"{kind.element} {kind.shape} {kind.key} {_words(kind.inner) if kind.inner else ''}"
