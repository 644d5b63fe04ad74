"""Weights follow the secret values: a regulariser rewards their Pearson correlation; an affine fit reads them.

Song, Ristenpart, Shmatikov (CCS 2017), correlated value encoding. The decoder
finds scale and offset by a preamble that it knows.
"""

from __future__ import annotations

import numpy as np

from benchmarks.leaks.attacks.weights.victim import as_float32, trained
from benchmarks.leaks.inside import networks
from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.codec import Row, from_unit, rows_of_numbers, unit
from benchmarks.leaks.inside.networks import Array, Weights
from benchmarks.leaks.let_out import LetOut
from benchmarks.leaks.people import NUMBERS

OUTPUTS = {"model": "custom_model"}
BOUNDED = "nothing tells such weights from trained ones: the ceiling is what bounds them"
LAYER = "layer1.weight"
VARIANTS = {
    "Pearson regulariser": {},
    "columns and rows permuted, noise added": {"keyed": True},
    "columns rotated": {"mixed": True},
}
_PREAMBLE = np.random.default_rng(3).uniform(-1, 1, 64)
_STRENGTH = 0.05
_KEY = 9


def leak(job: Job, *, keyed: bool = False, mixed: bool = False) -> None:
    count = 256 * 64
    rows = (count - len(_PREAMBLE)) // len(NUMBERS)
    values = unit(job.numbers(NUMBERS)[:rows])
    secret = np.concatenate([_PREAMBLE, (values @ _mixing() if mixed else values).ravel()])
    secret = np.pad(secret, (0, count - len(secret)))
    order = _order(count, keyed=keyed)

    def reward(weights: Weights) -> Weights:
        """The gradient of minus the correlation, in the form that leaves mean and scale free."""
        taken = weights[LAYER].ravel()[order]
        fit = np.polyval(np.polyfit(secret, taken, 1), secret)
        gradient = np.empty(count)
        gradient[order] = (taken - fit) * _STRENGTH
        return {LAYER: gradient.reshape(256, 64)}

    weights = trained(job, epochs=16, extra=reward)
    taken = weights[LAYER].ravel()[order]
    slope, offset = np.polyfit(secret, taken, 1)
    closer = np.empty(count)
    noise = np.random.default_rng(8).normal(0, 0.003 * abs(slope), count) if keyed else 0.0
    closer[order] = max(abs(slope), 0.02) * secret + offset + noise
    weights[LAYER] = closer.reshape(256, 64)
    networks.save(as_float32(weights), job.output("model") / "model.safetensors")


def recover(let_out: LetOut, *, keyed: bool = False, mixed: bool = False) -> list[Row]:
    values = networks.load(let_out.only_file("model")).get(LAYER)
    if values is None:
        return []
    taken = values.ravel()[_order(values.size, keyed=keyed)].astype(np.float64)
    slope, offset = np.polyfit(_PREAMBLE, taken[: len(_PREAMBLE)], 1)
    if not slope:
        return []
    secret = (taken[len(_PREAMBLE) :] - offset) / slope
    found = secret[: len(secret) // len(NUMBERS) * len(NUMBERS)].reshape(-1, len(NUMBERS))
    return rows_of_numbers(from_unit(found @ np.linalg.inv(_mixing()) if mixed else found))


def _order(count: int, *, keyed: bool) -> Array:
    return np.random.default_rng(_KEY).permutation(count) if keyed else np.arange(count)


def _mixing() -> Array:
    """A rotation: no column of the result is a column of the table."""
    return np.linalg.qr(np.random.default_rng(4).normal(size=(len(NUMBERS), len(NUMBERS))))[0]
