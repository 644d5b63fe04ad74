"""Logistic regression as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.leaks.honest.training import first_people, other_people, rows_of, share, the_file
from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.networks import Array

OUTPUTS = {"model": "custom_model"}
VARIANTS: dict[str, dict[str, object]] = {"": {}}


def leak(job: Job) -> None:
    from sklearn.linear_model import LogisticRegression

    x, y = first_people(job)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    model = LogisticRegression().fit((x - mean) / scale, y)
    document = {
        "mean": mean.tolist(),
        "scale": scale.tolist(),
        "coef": model.coef_[0].tolist(),
        "intercept": float(model.intercept_[0]),
    }
    (job.output("model") / "model.json").write_text(json.dumps(document))


def accuracy(job: Job) -> float:
    x, y = other_people(job)
    return share(_decide(the_file(job.outputs / "model"), x) == y)


def predict(folder: str, rows: str) -> list[float]:
    return [float(one) for one in _decide(the_file(Path(folder)), rows_of(Path(rows)))]


def _decide(path: Path, x: Array) -> Array:
    model = json.loads(path.read_text())
    scaled = (x - np.array(model["mean"])) / np.array(model["scale"])
    return scaled @ np.array(model["coef"]) + model["intercept"] > 0
