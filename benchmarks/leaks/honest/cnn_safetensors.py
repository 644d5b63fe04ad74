"""A convolutional network of 60,000 weights on pictures, as safetensors."""

from __future__ import annotations

import numpy as np

from benchmarks.leaks.honest.convolutions import accuracy_of, trained
from benchmarks.leaks.honest.training import the_file
from benchmarks.leaks.inside import networks
from benchmarks.leaks.inside.channels import Job

DATASET = "digits"
OUTPUTS = {"model": "custom_model"}
VARIANTS: dict[str, dict[str, object]] = {"": {}}


def leak(job: Job) -> None:
    weights = {name: value.astype(np.float32) for name, value in trained(job).items()}
    networks.save(weights, job.output("model") / "model.safetensors")


def accuracy(job: Job) -> float:
    weights = networks.load(the_file(job.outputs / "model").read_bytes())
    return accuracy_of({name: value.astype(np.float64) for name, value in weights.items()}, job)
