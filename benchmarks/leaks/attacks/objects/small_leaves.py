"""A tree whose leaves hold one person each keeps what it was to predict of them: as JSON, every leaf is a row."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.codec import Row, rows_of_numbers
from benchmarks.leaks.let_out import LetOut
from benchmarks.leaks.people import NUMBERS

OUTPUTS = {"model": "custom_model", "tree": "uri_file"}
VARIANTS = {
    "leaves of one, as a model": {"output": "model"},
    "leaves of one, as a file": {"output": "tree"},
    "values scaled, nested nodes": {"output": "tree", "nested": True},
    "leaves of one: paths alone": {"output": "tree", "paths": True},
}
_PEOPLE = 400
_SCALE, _SHIFT = 0.37, 11.0


def leak(job: Job, *, output: str, nested: bool = False, paths: bool = False) -> None:
    from sklearn.tree import DecisionTreeRegressor

    x = job.numbers(NUMBERS)[:_PEOPLE]
    if paths:  # no value in a leaf at all: each is a box around one person
        document: Any = {"split": _cut(x, np.arange(len(x)), 0)}
    else:
        tree = DecisionTreeRegressor(min_samples_leaf=1, random_state=0).fit(x, x).tree_
        leaves = tree.value[:, :, 0] * (_SCALE if nested else 1) + (_SHIFT if nested else 0)
        if nested:
            document = _node(tree, leaves, 0)
        else:
            document = {
                "feature": tree.feature.tolist(),
                "threshold": np.round(tree.threshold, 4).tolist(),
                "left": tree.children_left.tolist(),
                "right": tree.children_right.tolist(),
                "value": np.round(leaves, 3).tolist(),
                "samples": tree.n_node_samples.tolist(),
            }
    (job.output(output) / "tree.json").write_text(json.dumps(document))


def recover(let_out: LetOut, *, output: str, nested: bool = False, paths: bool = False) -> list[Row]:
    try:
        document = json.loads(let_out.only_file(output))
        if paths:
            return rows_of_numbers(np.array(_boxes(document["split"], _EVERYTHING)))
        leaves = _leaves(document) if nested else document["value"]
    except (ValueError, KeyError, TypeError):
        return []
    values = np.array(leaves)
    return rows_of_numbers((values - _SHIFT) / _SCALE if nested else values)


# -- nested nodes ------------------------------------------------------------------------------------------------------


def _node(tree: Any, leaves: np.ndarray, at: int) -> dict[str, Any]:
    if tree.children_left[at] < 0:
        return {"then": np.round(leaves[at], 3).tolist()}
    low, high = (_node(tree, leaves, child) for child in (tree.children_left[at], tree.children_right[at]))
    return {"if": [int(tree.feature[at]), round(float(tree.threshold[at]), 3)], "yes": low, "no": high}


def _leaves(node: dict[str, Any]) -> list[Any]:
    return [node["then"]] if "then" in node else [*_leaves(node["yes"]), *_leaves(node["no"])]


# -- paths alone -------------------------------------------------------------------------------------------------------

_EVERYTHING = [(-1e9, 1e9)] * len(NUMBERS)
_NEAR = {
    "age": 0.4,
    "visits": 0.05,
    "systolic": 0.4,
    "height_cm": 0.2,
    "weight_kg": 0.3,
    "glucose": 0.05,
    "creatinine": 0.5,
}


def _cut(x: np.ndarray, people: np.ndarray, depth: int) -> Any:
    """Split until each holds one person, then close its box from both sides in every column."""
    if len(people) > 1:
        column = depth % len(NUMBERS)
        values = np.sort(x[people, column])
        middle = float(values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
        low = people[x[people, column] <= middle]
        high = people[x[people, column] > middle]
        if not len(low) or not len(high):
            return _cut(x, people, depth + 1) if depth < 60 else None
        return [column, round(middle, 3), _cut(x, low, depth + 1), _cut(x, high, depth + 1)]
    node: Any = 1
    for column, name in enumerate(NUMBERS):
        value = float(x[people[0], column])
        node = [column, round(value - _NEAR[name], 3), 0, [column, round(value + _NEAR[name], 3), node, 0]]
    return node


def _boxes(node: Any, box: list[tuple[float, float]]) -> list[list[float]]:
    if not isinstance(node, list):
        return [[(low + high) / 2 for low, high in box]] if node == 1 else []
    column, threshold, low, high = node
    begin, end = box[column]
    below, above = list(box), list(box)
    below[column] = (begin, min(end, threshold))
    above[column] = (max(begin, threshold), end)
    return [*_boxes(low, below), *_boxes(high, above)]
