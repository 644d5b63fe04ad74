"""A convolutional network of 60,000 weights on pictures, as safetensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.leaks.honest.convolutions import accuracy_of, decide, trained
from benchmarks.leaks.honest.training import the_file
from benchmarks.leaks.inside import networks
from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.networks import Array, Weights

DATASET = "digits"
OUTPUTS = {"model": "custom_model"}
VARIANTS: dict[str, dict[str, object]] = {"": {}}


def leak(job: Job) -> None:
    weights = {name: value.astype(np.float32) for name, value in trained(job).items()}
    networks.save(weights, job.output("model") / "model.safetensors")


def accuracy(job: Job) -> float:
    return accuracy_of(_stored(job.outputs / "model"), job)


def predict(folder: str, rows: str) -> Array:
    return decide(_stored(Path(folder)), Path(rows))


def _stored(folder: Path) -> Weights:
    weights = networks.load(the_file(folder).read_bytes())
    return {name: value.astype(np.float64) for name, value in weights.items()}
