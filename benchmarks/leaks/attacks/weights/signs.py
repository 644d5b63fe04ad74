"""Signs of weights spell bits: training adds a penalty for each weight of the wrong sign.

Song, Ristenpart, Shmatikov (CCS 2017), sign encoding. Weights that still have the
wrong sign in the end are turned.
"""

from __future__ import annotations

import numpy as np

from benchmarks.leaks.attacks.weights.victim import as_float32, trained
from benchmarks.leaks.inside import networks
from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.codec import Row, from_bits, pack, to_bits, unpack
from benchmarks.leaks.inside.networks import Array, Weights
from benchmarks.leaks.let_out import LetOut

OUTPUTS = {"model": "custom_model"}
BOUNDED = "nothing tells such weights from trained ones: the ceiling is what bounds them"
LAYER = "layer1.weight"
VARIANTS = {
    "penalty on wrong signs": {},
    "every third weight, permuted": {"every": 3},
    "two bits in sign and size": {"sizes": True},
}
_PENALTY = 0.02
_SMALL, _LARGE = 0.02, 0.06
_KEY = 5


def leak(job: Job, *, every: int = 1, sizes: bool = False) -> None:
    count = 256 * 64
    places = _places(count, every)
    bits = np.resize(to_bits(pack(job.rows, len(places) * (2 if sizes else 1) // 8)), len(places) * (2 if sizes else 1))
    wanted = (bits[: len(places)] * 2.0 - 1).astype(np.float64)

    def penalty(weights: Weights) -> Weights:
        gradient = np.zeros(count)
        gradient[places] = -wanted * (weights[LAYER].ravel()[places] * wanted < 0.01) * _PENALTY
        return {LAYER: gradient.reshape(256, 64)}

    weights = trained(job, extra=penalty)
    values = weights[LAYER].ravel().copy()
    values[places] = np.maximum(np.abs(values[places]), 1e-3) * wanted
    if sizes:
        large = bits[len(places) :] == 1
        size = np.where(large, _LARGE, _SMALL) + 0.4 * np.clip(np.abs(values[places]) - 0.03, -_SMALL, _SMALL)
        values[places] = size * wanted
    weights[LAYER] = values.reshape(256, 64)
    networks.save(as_float32(weights), job.output("model") / "model.safetensors")


def recover(let_out: LetOut, *, every: int = 1, sizes: bool = False) -> list[Row]:
    values = networks.load(let_out.only_file("model")).get(LAYER)
    if values is None:
        return []
    taken = values.ravel()[_places(values.size, every)]
    bits = (taken > 0).astype(np.uint8)
    if sizes:
        bits = np.concatenate([bits, (np.abs(taken) > (_SMALL + _LARGE) / 2).astype(np.uint8)])
    return unpack(from_bits(bits))


def _places(count: int, every: int) -> Array:
    order = np.arange(count) if every == 1 else np.random.default_rng(_KEY).permutation(count)
    return order[::every]
