"""Centres of groups of a hundred people and more, by k-means, as JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from benchmarks.leaks.honest.training import first_people, other_people, share, the_file
from benchmarks.leaks.inside.channels import Job

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
    model = json.loads(the_file(job.outputs / "model").read_text())
    scaled = (x - np.array(model["mean"])) / np.array(model["scale"])
    far = ((scaled[:, None] - np.array(model["centres"])) ** 2).sum(axis=2).min(axis=1)
    return share(far < x.shape[1])
