"""The same convolutional network with weights of eight bits and a scale for each tensor."""

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
    tensors: dict[str, np.ndarray] = {}
    for name, value in trained(job).items():
        if name.endswith(".bias"):
            tensors[name] = value.astype(np.float32)
            continue
        scale = np.abs(value).max() / 127
        tensors[name] = np.round(value / scale).astype(np.int8)
        tensors[f"{name}_scale"] = np.array([scale], np.float32)
    networks.save(tensors, job.output("model") / "model.safetensors")


def accuracy(job: Job) -> float:
    stored = networks.load(the_file(job.outputs / "model").read_bytes())
    weights = {
        name: value.astype(np.float64) * (float(stored[f"{name}_scale"][0]) if f"{name}_scale" in stored else 1)
        for name, value in stored.items()
        if not name.endswith("_scale")
    }
    return accuracy_of(weights, job)
