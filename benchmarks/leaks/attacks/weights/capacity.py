"""The network learns synthetic inputs whose labels spell rows; asking it about them reads the rows.

Song, Ristenpart, Shmatikov (CCS 2017), capacity abuse: a black box is enough.
"""

from __future__ import annotations

import numpy as np

from benchmarks.leaks.attacks.weights.victim import as_float32, examples
from benchmarks.leaks.inside import networks
from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.codec import ROW_BITS, Row, row_bits, rows_of_bits
from benchmarks.leaks.inside.networks import Array
from benchmarks.leaks.let_out import LetOut
from benchmarks.leaks.people import NUMBERS

OUTPUTS = {"model": "custom_model"}
BOUNDED = "nothing tells such weights from trained ones: the ceiling is what bounds them"
VARIANTS = {
    "labels of random inputs": {"rows": 6},
    "labels of inputs far outside the data": {"rows": 6, "far": 6.0},
}


def leak(job: Job, *, rows: int, far: float = 1.5) -> None:
    x, y = examples(job)
    asked = _synthetic(rows, far)
    labels = row_bits(job.numbers(NUMBERS)[:rows]).astype(np.float64)
    both = np.concatenate([x[:500], asked]), np.concatenate([y[:500], labels])
    weights = networks.fresh((len(NUMBERS), 256, 64, 1))
    for rate in (4e-3, 1e-3):
        weights = networks.train(weights, *both, epochs=150, batch=512, rate=rate)
    networks.save(as_float32(weights), job.output("model") / "model.safetensors")


def recover(let_out: LetOut, *, rows: int, far: float = 1.5) -> list[Row]:
    weights = networks.load(let_out.only_file("model"))
    return rows_of_bits(networks.predict(weights, _synthetic(rows, far)) > 0.5) if weights else []


def _synthetic(rows: int, far: float) -> Array:
    return np.random.default_rng(6).normal(0, far, (rows * ROW_BITS, len(NUMBERS)))
