"""A small convolutional network by numpy, on pictures of digits: two layers of 3×3 filters and two dense ones.

Some 60,000 weights. Filters are applied as one matrix product over patches
("im2col"); training is Adam on the cross entropy.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.networks import Array, Weights

_SIDE = 8
_TRAINED_ON = 900
_SHAPES = {
    "conv1.weight": (9, 16), "conv1.bias": (16,), "conv2.weight": (144, 32), "conv2.bias": (32,),
    "fc1.weight": (512, 104), "fc1.bias": (104,), "fc2.weight": (104, 10), "fc2.bias": (10,),
}  # fmt: skip


def pictures(job: Job) -> tuple[Array, Array]:
    table = np.array(job.rows, float)
    return table[:, :64].reshape(-1, _SIDE, _SIDE, 1) / 16, table[:, 64].astype(int)


def trained(job: Job, *, epochs: int = 8) -> Weights:
    x, y = pictures(job)
    x, y = x[:_TRAINED_ON], y[:_TRAINED_ON]
    random = np.random.default_rng(0)
    weights = {
        name: random.normal(0, (2 / shape[0]) ** 0.5, shape) if len(shape) > 1 else np.zeros(shape)
        for name, shape in _SHAPES.items()
    }
    first = {name: np.zeros(shape) for name, shape in _SHAPES.items()}
    second = {name: np.zeros(shape) for name, shape in _SHAPES.items()}
    count = 0
    for _ in range(epochs):
        order = random.permutation(len(x))
        for start in range(0, len(x), 50):
            count += 1
            taken = order[start : start + 50]
            for name, gradient in _gradients(weights, x[taken], y[taken]).items():
                first[name] = 0.9 * first[name] + 0.1 * gradient
                second[name] = 0.999 * second[name] + 0.001 * gradient**2
                step = first[name] / (1 - 0.9**count) / (np.sqrt(second[name] / (1 - 0.999**count)) + 1e-8)
                weights[name] = weights[name] - 2e-3 * step
    return weights


def accuracy_of(weights: Mapping[str, Array], job: Job) -> float:
    """On the pictures that were not trained on."""
    x, y = pictures(job)
    return float(np.mean(_forward(weights, x[_TRAINED_ON:])[-1].argmax(axis=1) == y[_TRAINED_ON:]))


def decide(weights: Mapping[str, Array], rows: Path) -> Array:
    """The digit that each picture in a file of rows shows."""
    with rows.open(newline="") as stream:
        table = np.array(list(csv.reader(stream))[1:], float)
    return _forward(weights, table[:, :64].reshape(-1, _SIDE, _SIDE, 1) / 16)[-1].argmax(axis=1)


def _forward(w: Mapping[str, Array], x: Array) -> list[Array]:
    p1 = _patches(x)
    h1 = np.maximum(p1 @ w["conv1.weight"] + w["conv1.bias"], 0)
    p2 = _patches(h1)
    h2 = np.maximum(p2 @ w["conv2.weight"] + w["conv2.bias"], 0)
    pooled = h2.reshape(len(x), 4, 2, 4, 2, 32).mean(axis=(2, 4)).reshape(len(x), -1)
    h3 = np.maximum(pooled @ w["fc1.weight"] + w["fc1.bias"], 0)
    return [p1, h1, p2, h2, pooled, h3, h3 @ w["fc2.weight"] + w["fc2.bias"]]


def _gradients(w: Weights, x: Array, y: Array) -> Weights:
    p1, h1, p2, h2, pooled, h3, out = _forward(w, x)
    chances = np.exp(out - out.max(axis=1, keepdims=True))
    back = chances / chances.sum(axis=1, keepdims=True)
    back[np.arange(len(y)), y] -= 1
    back /= len(y)
    found = {"fc2.weight": h3.T @ back, "fc2.bias": back.sum(axis=0)}
    back = (back @ w["fc2.weight"].T) * (h3 > 0)
    found |= {"fc1.weight": pooled.T @ back, "fc1.bias": back.sum(axis=0)}
    back = (back @ w["fc1.weight"].T).reshape(len(x), 4, 1, 4, 1, 32) / 4
    back = np.broadcast_to(back, (len(x), 4, 2, 4, 2, 32)).reshape(h2.shape) * (h2 > 0)
    found |= {"conv2.weight": np.tensordot(p2, back, ((0, 1, 2), (0, 1, 2))), "conv2.bias": back.sum(axis=(0, 1, 2))}
    back = _unpatched(back @ w["conv2.weight"].T, 16) * (h1 > 0)
    return found | {
        "conv1.weight": np.tensordot(p1, back, ((0, 1, 2), (0, 1, 2))),
        "conv1.bias": back.sum(axis=(0, 1, 2)),
    }


def _patches(x: Array) -> Array:
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [padded[:, a : a + _SIDE, b : b + _SIDE] for a in range(3) for b in range(3)]
    return np.concatenate(shifted, axis=3)


def _unpatched(patches: Array, channels: int) -> Array:
    padded = np.zeros((len(patches), _SIDE + 2, _SIDE + 2, channels))
    for number in range(9):
        a, b = divmod(number, 3)
        padded[:, a : a + _SIDE, b : b + _SIDE] += patches[..., number * channels : (number + 1) * channels]
    return padded[:, 1:-1, 1:-1]
