"""Rewrites ONNX's tree ensembles: one numbering, thresholds on a grid, and no room beside the trees.

`TreeEnsembleClassifier` and `TreeEnsembleRegressor` (ONNX operators of
ai.onnx.ml) are parallel lists: a line for each node and a line for each weight
of a leaf. Numbers of nodes, their order, the fields of leaves, nodes that no
root leads to and weights of nodes that are none are free, so the copy has each tree
in the order of a walk from its root, true side first, and nothing else.

What is left open is counted once: where the leaves are, features, thresholds,
weights, and the order of the trees.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from insitu.gate.canonical.form import Leaves
from insitu.gate.canonical.precision import Array, Rounding
from insitu.gate.ceiling import bits_of_choices, bits_of_grid, bits_of_values
from insitu.gate.contents import NotReadableError
from insitu.gate.onnx.model import FLOATS, INTS, STRINGS, TENSOR, Attribute, Tensor

TREES = ("ai.onnx.ml:TreeEnsembleClassifier", "ai.onnx.ml:TreeEnsembleRegressor")
_MODES = (b"BRANCH_LEQ", b"BRANCH_LT", b"BRANCH_GTE", b"BRANCH_GT", b"BRANCH_EQ", b"BRANCH_NEQ")
_LEAF = b"LEAF"
_NODE_LISTS = ("treeids", "nodeids", "featureids", "truenodeids", "falsenodeids")
Attributes = Mapping[str, Attribute]


@dataclass(frozen=True)
class CanonicalTrees:
    attributes: dict[str, Attribute]
    carries_bits: int
    leaves: Leaves


def rewrite_trees(attributes: Attributes, rounding: Rounding) -> CanonicalTrees:
    """The ensemble's lists in their one order; its other attributes are left to the caller.

    Raises:
        NotReadableError: the lists do not make trees.
    """
    nodes = _Nodes(attributes)
    order, depth_first = nodes.walk()
    split = ~nodes.leaf[order]
    thresholds, wide = _numbers(attributes, "nodes_values")
    weights_prefix = "class" if "class_ids" in attributes else "target"
    weights = _Weights(attributes, weights_prefix, nodes, depth_first, rounding)
    feature = np.where(split, nodes.lists["featureids"][order], 0)
    if (feature < 0).any():
        raise NotReadableError("a tree asks a feature that there can't be")
    limit = np.zeros(len(order))
    limit[split] = rounding.on_grid(thresholds[order][split].astype(np.float64), feature[split])
    missing = np.where(split, nodes.missing[order], 0)
    modes: list[bytes] = [_LEAF if nodes.leaf[at] else nodes.modes[at] for at in order.tolist()]
    copy = {
        **_whole("nodes_treeids", nodes.tree_numbers(order)),
        **_whole("nodes_nodeids", np.array([depth_first[at][1] for at in order], dtype=np.int64)),
        **_whole("nodes_featureids", feature),
        **_whole("nodes_truenodeids", nodes.child_numbers(order, "truenodeids", depth_first)),
        **_whole("nodes_falsenodeids", nodes.child_numbers(order, "falsenodeids", depth_first)),
        **(_whole("nodes_missing_value_tracks_true", missing) if missing.any() else {}),
        "nodes_modes": Attribute("nodes_modes", STRINGS, modes),
        **_floats("nodes_values", limit, wide=wide),
        **weights.attributes,
    }
    kinds = np.array([_MODES.index(mode) for mode in modes if mode != _LEAF], dtype=np.int64)
    bits = (
        len(order)
        + bits_of_values(feature[split])
        + bits_of_grid(limit[split], feature[split], rounding.precision)
        + bits_of_values(kinds)
        + bits_of_values(missing)
        + weights.carries_bits
        + math.ceil(math.lgamma(nodes.trees + 1) / math.log(2))
    )
    return CanonicalTrees(copy, bits, Leaves(most=nodes.most_leaves(order)))


class _Nodes:
    """The lists of nodes, checked to be of one length."""

    def __init__(self, attributes: Attributes) -> None:
        self.lists = {name: _ints(attributes, f"nodes_{name}") for name in _NODE_LISTS}
        self.modes = _texts(attributes, "nodes_modes")
        count = len(self.modes)
        values, _ = _numbers(attributes, "nodes_values")
        missing = _ints(attributes, "nodes_missing_value_tracks_true")
        self.missing = (missing if len(missing) else np.zeros(count, dtype=np.int64)) != 0
        lengths = {len(each) for each in self.lists.values()} | {len(values), len(self.missing)}
        if not count or lengths != {count} or not set(self.modes) <= {*_MODES, _LEAF}:
            raise NotReadableError("the lists of a tree ensemble don't belong together")
        self.leaf = np.array([mode == _LEAF for mode in self.modes])
        keys = list(zip(self.lists["treeids"].tolist(), self.lists["nodeids"].tolist(), strict=True))
        self.places = {key: at for at, key in enumerate(keys)}
        if len(self.places) != count:
            raise NotReadableError("two nodes of a tree have one number")
        self.trees = len(set(self.lists["treeids"].tolist()))

    def walk(self) -> tuple[Array, dict[int, tuple[int, int]]]:
        """Places of the nodes from each root, true side first; and for each place its tree's and its own new number."""
        children = {name: self._children(name) for name in ("truenodeids", "falsenodeids")}
        below = {child for side in children.values() for child in side.values()}
        roots = [at for at in range(len(self.modes)) if at not in below]
        trees = self.lists["treeids"][roots].tolist()
        if len(set(trees)) != len(trees) or len(trees) != self.trees:
            raise NotReadableError("a tree has no root, or more than one")
        order: list[int] = []
        numbers: dict[int, tuple[int, int]] = {}
        for tree, root in enumerate(roots):
            stack, count = [root], 0
            while stack:
                at = stack.pop()
                if at in numbers:
                    raise NotReadableError("a node hangs below two others")
                numbers[at] = (tree, count)
                order.append(at)
                count += 1
                if not self.leaf[at]:
                    stack += [children["falsenodeids"][at], children["truenodeids"][at]]
        return np.array(order, dtype=np.int64), numbers

    def _children(self, side: str) -> dict[int, int]:
        found: dict[int, int] = {}
        for at in np.flatnonzero(~self.leaf).tolist():
            key = (int(self.lists["treeids"][at]), int(self.lists[side][at]))
            if key not in self.places:
                raise NotReadableError("a node's child is not there")
            found[at] = self.places[key]
        return found

    def tree_numbers(self, order: Array) -> Array:
        _, first = np.unique(self.lists["treeids"][order], return_index=True)
        starts = np.zeros(len(order), dtype=np.int64)
        starts[first] = 1
        return np.cumsum(starts) - 1

    def child_numbers(self, order: Array, side: str, numbers: Mapping[int, tuple[int, int]]) -> Array:
        children = self._children(side)
        return np.array([numbers[children[at]][1] if at in children else 0 for at in order.tolist()], dtype=np.int64)

    def most_leaves(self, order: Array) -> int:
        return int(np.unique(self.lists["treeids"][order][self.leaf[order]], return_counts=True)[1].max())


class _Weights:
    """What the leaves say: in the order of the leaves, then of the classes."""

    def __init__(
        self,
        attributes: Attributes,
        prefix: str,
        nodes: _Nodes,
        numbers: Mapping[int, tuple[int, int]],
        rounding: Rounding,
    ) -> None:
        trees, ids = _ints(attributes, f"{prefix}_treeids"), _ints(attributes, f"{prefix}_nodeids")
        kinds = _ints(attributes, f"{prefix}_ids")
        values, wide = _numbers(attributes, f"{prefix}_weights")
        if not len(trees) == len(ids) == len(kinds) == len(values):
            raise NotReadableError("the weights of a tree ensemble don't belong together")
        at = [nodes.places.get(key, -1) for key in zip(trees.tolist(), ids.tolist(), strict=True)]
        kept = [line for line, place in enumerate(at) if place in numbers and nodes.leaf[place]]
        keys = {line: (*numbers[at[line]], int(kinds[line])) for line in kept}
        if len(set(keys.values())) != len(keys):
            raise NotReadableError("a leaf has two weights for one class")
        ordered = sorted(kept, key=keys.__getitem__)
        leaves = np.array([keys[line][:2] for line in ordered], dtype=np.int64).reshape(-1, 2)
        rounded = rounding.weights(values[ordered])
        per_leaf = np.unique(leaves, axis=0, return_counts=True)[1] if len(leaves) else np.empty(0, dtype=np.int64)
        silent = int(nodes.leaf.sum()) != len(per_leaf)
        self.attributes = {
            **_whole(f"{prefix}_treeids", leaves[:, 0]),
            **_whole(f"{prefix}_nodeids", leaves[:, 1]),
            **_whole(f"{prefix}_ids", kinds[ordered]),
            **_floats(f"{prefix}_weights", rounded, wide=wide),
        }
        self.carries_bits = (
            bits_of_values(rounded)
            + bits_of_values(kinds[ordered])
            + bits_of_values(per_leaf)
            + bits_of_choices(int(nodes.leaf.sum()), 2) * silent  # which leaves say nothing
        )


def _ints(attributes: Attributes, name: str) -> Array:
    found = attributes.get(name)
    if found is None:
        return np.empty(0, dtype=np.int64)
    if found.type != INTS or not isinstance(found.value, np.ndarray):
        raise NotReadableError("a list of a tree ensemble has another type")
    return found.value


def _texts(attributes: Attributes, name: str) -> list[bytes]:
    found = attributes.get(name)
    if found is None or not isinstance(found.value, list):
        raise NotReadableError("a list of a tree ensemble is not there")
    return found.value


def _numbers(attributes: Attributes, name: str) -> tuple[Array, bool]:
    """A list of floats, or the same in double precision as a tensor."""
    plain, wide = attributes.get(name), attributes.get(f"{name}_as_tensor")
    if wide is not None and plain is None and wide.type == TENSOR and isinstance(wide.value, Tensor):
        return wide.value.values.reshape(-1), True
    if plain is not None and wide is None and plain.type == FLOATS and isinstance(plain.value, np.ndarray):
        return plain.value, False
    raise NotReadableError("a list of a tree ensemble is not there, or has another type")


def _whole(name: str, values: Array) -> dict[str, Attribute]:
    return {name: Attribute(name, INTS, values.astype(np.int64))}


def _floats(name: str, values: Array, *, wide: bool) -> dict[str, Attribute]:
    if not wide:
        return {name: Attribute(name, FLOATS, values.astype(np.float32))}
    full = f"{name}_as_tensor"
    return {full: Attribute(full, TENSOR, Tensor(11, values.shape, values.astype(np.float64)))}
