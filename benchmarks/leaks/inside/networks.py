"""Small fully connected networks by numpy: training (Adam, logistic loss), predictions, safetensors files."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Weights = dict[str, Array]
Extra = Callable[[Weights], Weights]
"""What an attacker adds to the gradient."""


def fresh(sizes: Sequence[int], seed: int = 0) -> Weights:
    random = np.random.default_rng(seed)
    weights: Weights = {}
    for layer, (a, b) in enumerate(pairwise(sizes)):
        weights[f"layer{layer}.weight"] = random.normal(0, (2 / a) ** 0.5, (a, b))
        weights[f"layer{layer}.bias"] = np.zeros(b)
    return weights


def predict(weights: Mapping[str, Array], x: Array) -> Array:
    """Chances of the positive class."""
    return 1 / (1 + np.exp(-np.clip(_forward(weights, x)[-1][:, 0], -30, 30)))


def train(
    weights: Weights,
    x: Array,
    y: Array,
    *,
    epochs: int = 12,
    batch: int = 256,
    rate: float = 2e-3,
    extra: Extra | None = None,
    after: Callable[[int, Weights], None] = lambda _epoch, _weights: None,
) -> Weights:
    random = np.random.default_rng(1)
    first = {name: np.zeros_like(value) for name, value in weights.items()}
    second = {name: np.zeros_like(value) for name, value in weights.items()}
    count = 0
    for epoch in range(epochs):
        order = random.permutation(len(x))
        for start in range(0, len(x), batch):
            taken = order[start : start + batch]
            gradients = _gradients(weights, x[taken], y[taken])
            for name, more in (extra(weights) if extra else {}).items():
                gradients[name] = gradients[name] + more
            count += 1
            for name, gradient in gradients.items():
                first[name] = 0.9 * first[name] + 0.1 * gradient
                second[name] = 0.999 * second[name] + 0.001 * gradient**2
                step = first[name] / (1 - 0.9**count)
                weights[name] = weights[name] - rate * step / (np.sqrt(second[name] / (1 - 0.999**count)) + 1e-8)
        after(epoch, weights)
    return weights


def _layers(weights: Mapping[str, Array]) -> int:
    return sum(name.endswith(".weight") for name in weights)


def _forward(weights: Mapping[str, Array], x: Array) -> list[Array]:
    values = [x]
    for layer in range(_layers(weights)):
        out = values[-1] @ weights[f"layer{layer}.weight"] + weights[f"layer{layer}.bias"]
        values.append(out if layer == _layers(weights) - 1 else np.maximum(out, 0))
    return values


def _gradients(weights: Weights, x: Array, y: Array) -> Weights:
    values = _forward(weights, x)
    chances = 1 / (1 + np.exp(-np.clip(values[-1], -30, 30)))
    back = (chances - y[:, None]) / len(x)
    found: Weights = {}
    for layer in reversed(range(_layers(weights))):
        found[f"layer{layer}.weight"] = values[layer].T @ back
        found[f"layer{layer}.bias"] = back.sum(axis=0)
        if layer:
            back = back @ weights[f"layer{layer}.weight"].T * (values[layer] > 0)
    return found


# -- files -------------------------------------------------------------------------------------------------------------


def save(weights: Mapping[str, Array], path: Path, **metadata: str) -> None:
    """By the library, as people do it."""
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(value) for name, value in weights.items()}, path, metadata or None)


_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1",
    "U16": "<u2", "U32": "<u4", "U64": "<u8", "BOOL": "?",
}  # fmt: skip


def header_of(data: bytes) -> dict[str, Any]:
    """A safetensors file's header; empty if it is none."""
    try:
        (size,) = struct.unpack("<Q", data[:8])
        return json.loads(data[8 : 8 + size])
    except (ValueError, struct.error):
        return {}


def load(data: bytes) -> Weights:
    """Tensors in the order of their data. bfloat16 comes back as float32."""
    header = header_of(data)
    if not header:
        return {}
    start = 8 + struct.unpack("<Q", data[:8])[0]
    found: Weights = {}
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1]["data_offsets"], item[0])):
        begin, end = entry["data_offsets"]
        raw = data[start + begin : start + end]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(raw, _DTYPES[entry["dtype"]])
        found[name] = values.reshape(entry["shape"])
    return found


def flat(weights: Mapping[str, Array]) -> Array:
    """All weights in one row, by name: whatever order a file has them in."""
    return np.concatenate([np.asarray(weights[name]).ravel() for name in sorted(weights)]) if weights else np.empty(0)


def like(values: Array, weights: Mapping[str, Array]) -> Weights:
    """`flat`, undone."""
    found: Weights = {}
    at = 0
    for name in sorted(weights):
        size = weights[name].size
        found[name] = values[at : at + size].reshape(weights[name].shape)
        at += size
    return found
