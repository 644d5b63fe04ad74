"""Finds decision trees in a JSON document by their shape, and how many samples their leaves stand for.

What a key is called does not matter. A tree is one of:

- lists of equal length n, two of which point at positions so that every
  position but one is pointed at once: children to the left and to the right;
- a list of objects with two such fields, by position or by an identifier;
- objects within objects, two by two.

Counts of samples are whole numbers, one a node, that add up: at each split, the
sum of both children. A model that shows none is judged by the number of leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, cast

from insitu.gate.canonical.form import Leaves

_LEAST_NODES = 3
_MOST_LISTS = 40
Numbers = Sequence[Any]


@dataclass
class _Tree:
    """Children of each node by number (none: a leaf), and the numbers that nodes have."""

    children: list[tuple[int, int] | None]
    fields: dict[str, list[Any]] = field(default_factory=dict[str, list[Any]])

    @property
    def leaves(self) -> list[int]:
        return [node for node, below in enumerate(self.children) if below is None]

    def smallest(self) -> int | None:
        """Samples of the smallest leaf, by the numbers that add up; the least, if several do."""
        counts = [min(values[leaf] for leaf in self.leaves) for values in self.fields.values() if self._adds_up(values)]
        return min(counts, default=None)

    def _adds_up(self, values: Sequence[Any]) -> bool:
        if not all(_is_whole(value) and value >= 0 for value in values):
            return False
        return all(
            values[node] == values[below[0]] + values[below[1]]
            for node, below in enumerate(self.children)
            if below is not None
        )


def leaves_of(document: Any) -> Leaves | None:
    """The leaves of all trees in a document; None if there is no tree."""
    trees = list(_trees(document))
    if not trees:
        return None
    counted = [count for tree in trees if (count := tree.smallest()) is not None]
    return Leaves(max(len(tree.leaves) for tree in trees), min(counted, default=None))


def leaf_tables(value: Any) -> Iterator[list[list[Any]]]:
    """What the leaves of trees say, where that is several numbers each: without the averages that stand above them."""
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        tree = _of_lists(fields)
        if tree is not None:
            for items in fields.values():
                if isinstance(items, list) and len(cast("list[Any]", items)) == len(tree.children):
                    table = [cast("list[Any]", items)[leaf] for leaf in tree.leaves]
                    if _is_table(table):
                        yield table
        inner = list(fields.values())
    else:
        inner = cast("list[Any]", value) if isinstance(value, list) else []
    for item in inner:
        yield from leaf_tables(item)


def _is_table(rows: list[Any]) -> bool:
    return all(
        isinstance(row, list)
        and len(cast("list[Any]", row)) == len(rows[0]) > 1
        and all(_is_number(cell) for cell in cast("list[Any]", row))
        for row in rows
    )


def _trees(value: Any) -> Iterator[_Tree]:
    """The innermost first: objects in objects are a tree only where nothing in them is one by itself."""
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        tree, inner = _of_lists(fields), list(fields.values())
    elif isinstance(value, list):
        inner = cast("list[Any]", value)
        tree = _of_objects(inner)
    else:
        return
    if tree is not None:
        yield tree
        return
    nested = _nested(cast("dict[str, Any]", value)) if isinstance(value, dict) else None
    if nested is not None:
        yield nested
        return
    for item in inner:
        yield from _trees(item)


def _of_lists(fields: Mapping[str, Any]) -> _Tree | None:
    lists = {key: cast("list[Any]", item) for key, item in fields.items() if isinstance(item, list)}
    by_length: dict[int, dict[str, list[Any]]] = {}
    for key, items in lists.items():
        if len(items) >= _LEAST_NODES and all(_is_number(item) for item in items):
            by_length.setdefault(len(items), {})[key] = items
    for length, same in by_length.items():
        pointing = [key for key, items in same.items() if all(_is_whole(item) for item in items)][:_MOST_LISTS]
        for left, right in permutations(pointing, 2):
            children = _children(same[left], same[right], length)
            if children is not None:
                return _Tree(children, {key: items for key, items in same.items() if key not in (left, right)})
    return None


def _of_objects(items: list[Any]) -> _Tree | None:
    if len(items) < _LEAST_NODES or not all(isinstance(item, dict) for item in items):
        return None
    nodes = cast("list[dict[str, Any]]", items)
    keys = sorted({key for node in nodes for key, value in node.items() if _is_whole(value)})[:_MOST_LISTS]
    positions = {str(at): at for at in range(len(nodes))}
    for identifier in [None, *keys]:
        places = positions if identifier is None else {str(node.get(identifier)): at for at, node in enumerate(nodes)}
        if len(places) != len(nodes):
            continue
        for left, right in permutations([key for key in keys if key != identifier], 2):
            sides = [[_target(node.get(key, -1), places) for node in nodes] for key in (left, right)]
            children = _children(sides[0], sides[1], len(nodes))
            if children is not None:
                fields = {key: [node.get(key, -1) for node in nodes] for key in keys if key not in (left, right)}
                return _Tree(children, fields)
    return None


def _target(value: Any, places: Mapping[str, int]) -> int:
    """The position that a child's identifier names; -1 for none, which leaves write as a number below one."""
    return places.get(str(value), -1 if _is_whole(value) and value <= 0 else len(places))


def _children(left: Numbers, right: Numbers, count: int) -> list[tuple[int, int] | None] | None:
    """The two lists as children: each node but the root is exactly one's, and what names none names nothing at all."""
    pairs = [(int(a), int(b)) for a, b in zip(left, right, strict=True)]
    if any(child >= count for pair in pairs for child in pair):
        return None
    below = [pair if min(pair) > 0 else None for pair in pairs]
    pointed = [child for pair in below if pair is not None for child in pair]
    return below if len(pointed) == count - 1 and len(set(pointed)) == len(pointed) else None


def _nested(fields: Mapping[str, Any]) -> _Tree | None:
    """Objects in objects: each has two others in it, always under the same keys, or none."""
    found: list[Mapping[str, Any]] = []
    below: list[list[int]] = []
    links: set[tuple[str, ...]] = set()
    stack: list[tuple[Mapping[str, Any], int]] = [(fields, -1)]
    while stack:
        node, parent = stack.pop()
        inner = _inner(node)
        if len(inner) not in (0, 2):
            return None
        if inner:
            links.add(tuple(key for key, _ in inner))
        found.append(node)
        below.append([])
        if parent >= 0:
            below[parent].append(len(found) - 1)
        stack += [(child, len(found) - 1) for _, child in reversed(inner)]
    if len(links) != 1 or sum(1 for pair in below if pair) < 2:  # two parts of a document are no tree
        return None
    keys = sorted({key for node in found for key, value in node.items() if _is_whole(value)})[:_MOST_LISTS]
    return _Tree(
        [(pair[0], pair[1]) if pair else None for pair in below],
        {key: [node.get(key, -1) for node in found] for key in keys},
    )


def _inner(node: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    inner: list[tuple[str, Mapping[str, Any]]] = []
    for key, value in node.items():
        values = cast("list[Any]", value) if isinstance(value, list) else [value]
        inner += [(key, cast("dict[str, Any]", item)) for item in values if isinstance(item, dict)]
    return inner


def _is_whole(value: Any) -> bool:
    return _is_number(value) and abs(value) < 2**53 and value == int(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
