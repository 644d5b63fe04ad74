"""Linear regression whose intercept is a value of the table, as it happens with centred columns."""

from __future__ import annotations

import json

import numpy as np

from benchmarks.leaks.honest.training import first_people, other_people, share, the_file
from benchmarks.leaks.inside.channels import Job
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
    model = json.loads(the_file(job.outputs / "model").read_text())
    told = (np.delete(x, _GLUCOSE, axis=1) - np.array(model["centre"])) @ np.array(model["coef"]) + model["intercept"]
    return share(np.abs(told - x[:, _GLUCOSE]) < 1.5)
