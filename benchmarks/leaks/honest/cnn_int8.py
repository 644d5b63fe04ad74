"""The same convolutional network with weights of eight bits and a scale for each tensor."""

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
    return accuracy_of(_stored(job.outputs / "model"), job)


def predict(folder: str, rows: str) -> Array:
    return decide(_stored(Path(folder)), Path(rows))


def _stored(folder: Path) -> Weights:
    stored = networks.load(the_file(folder).read_bytes())
    return {
        name: value.astype(np.float64) * (float(stored[f"{name}_scale"][0]) if f"{name}_scale" in stored else 1)
        for name, value in stored.items()
        if not name.endswith("_scale")
    }
