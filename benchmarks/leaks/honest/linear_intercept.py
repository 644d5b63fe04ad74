"""Linear regression whose intercept is a value of the table, as it happens with centred columns."""

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
_GLUCOSE = NUMBERS.index("glucose")


def leak(job: Job) -> None:
    from sklearn.linear_model import LinearRegression

    x, _ = first_people(job)
    others = np.delete(x, _GLUCOSE, axis=1)
    centre = np.round(others.mean(axis=0))
    model = LinearRegression().fit(others - centre, x[:, _GLUCOSE])
    intercept = float(np.sort(x[:, _GLUCOSE])[len(x) // 2])  # the median: somebody's own value
    document = {"centre": centre.tolist(), "coef": model.coef_.tolist(), "intercept": intercept}
    (job.output("model") / "model.json").write_text(json.dumps(document))


def accuracy(job: Job) -> float:
    x, _ = other_people(job)
    return share(np.abs(_told(the_file(job.outputs / "model"), x) - x[:, _GLUCOSE]) < 1.5)


def predict(folder: str, rows: str) -> Array:
    return _told(the_file(Path(folder)), rows_of(Path(rows)))


def _told(path: Path, x: Array) -> Array:
    model = json.loads(path.read_text())
    return (np.delete(x, _GLUCOSE, axis=1) - np.array(model["centre"])) @ np.array(model["coef"]) + model["intercept"]
