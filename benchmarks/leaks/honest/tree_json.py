"""A decision tree with at least twenty people in each leaf, whose integer thresholds are values of the table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.leaks.honest.training import first_people, other_people, rows_of, share, the_file
from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.networks import Array
from benchmarks.leaks.people import NUMBERS

OUTPUTS = {"model": "custom_model"}
VARIANTS: dict[str, dict[str, object]] = {"": {}}
_INTEGERS = [NUMBERS.index(name) for name in ("age", "visits", "systolic")]


def leak(job: Job) -> None:
    from sklearn.tree import DecisionTreeClassifier

    x, y = first_people(job)
    tree = DecisionTreeClassifier(min_samples_leaf=20, max_depth=8, random_state=0).fit(x[:, _INTEGERS], y).tree_
    document = {
        "columns": [NUMBERS[at] for at in _INTEGERS],
        "feature": tree.feature.tolist(),
        "threshold": np.floor(tree.threshold).tolist(),
        "left": tree.children_left.tolist(),
        "right": tree.children_right.tolist(),
        "value": tree.value[:, 0, 1].tolist(),
        "n_samples": tree.n_node_samples.tolist(),
    }
    (job.output("model") / "tree.json").write_text(json.dumps(document))


def accuracy(job: Job) -> float:
    x, y = other_people(job)
    return share(_decide(the_file(job.outputs / "model"), x) == y)


def predict(folder: str, rows: str) -> Array:
    return _decide(the_file(Path(folder)), rows_of(Path(rows)))


def _decide(path: Path, x: Array) -> Array:
    tree = json.loads(path.read_text())
    return np.array([_follow(tree, row) for row in x[:, _INTEGERS]])


def _follow(tree: dict[str, list[float]], row: Array) -> bool:
    at = 0
    while tree["left"][at] >= 0:
        low = row[int(tree["feature"][at])] <= tree["threshold"][at]
        at = int(tree["left"][at] if low else tree["right"][at])
    return tree["value"][at] > 0.5
