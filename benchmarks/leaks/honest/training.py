"""What the honest scripts share: examples, a test split, and how good a prediction is."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.networks import Array
from benchmarks.leaks.people import NUMBERS, TARGET

_TRAINED_ON = 3500


def people(job: Job) -> tuple[Array, Array]:
    return job.numbers(NUMBERS), job.numbers([TARGET])[:, 0]


def first_people(job: Job) -> tuple[Array, Array]:
    """Those that are trained on."""
    x, y = people(job)
    return x[:_TRAINED_ON], y[:_TRAINED_ON]


def other_people(job: Job) -> tuple[Array, Array]:
    """Those that are not."""
    x, y = people(job)
    return x[_TRAINED_ON:], y[_TRAINED_ON:]


def share(right: Array) -> float:
    return float(np.mean(right))


def rows_of(path: Path) -> Array:
    """The measurements in a file with rows of the table, for a smoke prediction."""
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))
    places = [rows[0].index(name) for name in NUMBERS]
    return np.array([[float(row[at]) for at in places] for row in rows[1:]])


def the_file(folder: Path) -> Path:
    return next(path for path in sorted(folder.rglob("*")) if path.is_file())
