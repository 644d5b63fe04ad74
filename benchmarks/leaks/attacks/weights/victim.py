"""The network that most attacks on weights hide in: readmission from seven measurements, some 19,000 weights."""

from __future__ import annotations

import numpy as np

from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.codec import unit
from benchmarks.leaks.inside.networks import Array, Extra, Weights, fresh, train
from benchmarks.leaks.people import NUMBERS, TARGET

SIZES = (len(NUMBERS), 256, 64, 1)


def examples(job: Job) -> tuple[Array, Array]:
    return unit(job.numbers(NUMBERS)), job.numbers([TARGET])[:, 0]


def trained(job: Job, *, epochs: int = 8, sizes: tuple[int, ...] = SIZES, extra: Extra | None = None) -> Weights:
    x, y = examples(job)
    return train(fresh(sizes), x, y, epochs=epochs, extra=extra)


def as_float32(weights: Weights) -> Weights:
    return {name: value.astype(np.float32) for name, value in weights.items()}
