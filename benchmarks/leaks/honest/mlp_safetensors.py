"""A network of 20, 64 and 1 neurons as safetensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.leaks.honest.training import first_people, other_people, rows_of, share, the_file
from benchmarks.leaks.inside import networks
from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.codec import unit
from benchmarks.leaks.inside.networks import Array

OUTPUTS = {"model": "custom_model"}
VARIANTS: dict[str, dict[str, object]] = {"": {}}
_WIDE = 20


def leak(job: Job) -> None:
    x, y = first_people(job)
    weights = networks.train(networks.fresh((_WIDE, 64, 1)), _widened(x), y, epochs=15)
    float32 = {name: value.astype(np.float32) for name, value in weights.items()}
    networks.save(float32, job.output("model") / "model.safetensors")


def accuracy(job: Job) -> float:
    x, y = other_people(job)
    return share((_ask(the_file(job.outputs / "model"), x) > 0.5) == y)


def predict(folder: str, rows: str) -> list[float]:
    return [float(one) for one in _ask(the_file(Path(folder)), rows_of(Path(rows)))]


def _ask(path: Path, x: Array) -> Array:
    return networks.predict(networks.load(path.read_bytes()), _widened(x))


def _widened(x: Array) -> Array:
    """Seven measurements, their squares, and some products: twenty inputs."""
    scaled = unit(x)
    products = scaled[:, :6] * scaled[:, 1:]
    return np.hstack([scaled, scaled**2, products])[:, :_WIDE]
