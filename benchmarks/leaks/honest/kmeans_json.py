"""Centres of groups of a hundred people and more, by k-means, as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.leaks.honest.training import first_people, other_people, rows_of, share, the_file
from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.networks import Array

OUTPUTS = {"model": "custom_model"}
VARIANTS: dict[str, dict[str, object]] = {"": {}}
_LEAST = 100


def leak(job: Job) -> None:
    from sklearn.cluster import KMeans

    x, _ = first_people(job)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    model: Any = KMeans(8, n_init="auto", random_state=0).fit((x - mean) / scale)
    sizes = np.bincount(model.labels_)
    assert sizes.min() >= _LEAST
    document = {
        "mean": mean.tolist(),
        "scale": scale.tolist(),
        "centres": model.cluster_centers_.tolist(),
        "n_samples": sizes.tolist(),
    }
    (job.output("model") / "centres.json").write_text(json.dumps(document))


def accuracy(job: Job) -> float:
    """How many people are nearer to their own group's centre than two standard deviations a column."""
    x, _ = other_people(job)
    return share(_far(the_file(job.outputs / "model"), x).min(axis=1) < x.shape[1])


def predict(folder: str, rows: str) -> Array:
    return _far(the_file(Path(folder)), rows_of(Path(rows))).argmin(axis=1)


def _far(path: Path, x: Array) -> Array:
    """Squared distances to each centre."""
    model = json.loads(path.read_text())
    scaled = (x - np.array(model["mean"])) / np.array(model["scale"])
    return ((scaled[:, None] - np.array(model["centres"])) ** 2).sum(axis=2)
