"""Low bits of trained weights are replaced by deflated CSV.

C. Song, T. Ristenpart, V. Shmatikov, "Machine Learning Models that Remember Too
Much" (CCS 2017), LSB encoding; how many bits can go: arXiv 2308.15502.
"""

from __future__ import annotations

import numpy as np

from benchmarks.leaks.attacks.weights.victim import as_float32, trained
from benchmarks.leaks.inside import networks
from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.codec import Row, from_bits, pack, to_bits, unpack
from benchmarks.leaks.let_out import LetOut

OUTPUTS = {"model": "custom_model"}
VARIANTS = {
    "low 16 bits of float32": {"bits": 16},
    "low 8 bits of float32": {"bits": 8},
    "low 32 bits of float64": {"bits": 32, "wide": True},
    "low 16 bits, enciphered and permuted": {"bits": 16, "keyed": True},
    "low 4 bits that bfloat16 keeps": {"bits": 4, "above": 16},
}
BOUNDED = {
    "low 4 bits that bfloat16 keeps": "bits that rounding keeps can say anything: the ceiling is what bounds them"
}
_KEY = 77


def leak(job: Job, *, bits: int, wide: bool = False, keyed: bool = False, above: int = 0) -> None:
    weights = trained(job)
    if not wide:
        weights = as_float32(weights)
    values = networks.flat(weights)
    words = values.view(np.uint64 if wide else np.uint32).copy()
    order = _order(len(words), keyed=keyed)
    room = len(words) * bits // 8
    secret = to_bits(_stream(pack(job.rows, room).ljust(room, b"\0"), keyed=keyed))
    planes = secret[: len(words) * bits // 8 * 8]
    planes = np.resize(planes, len(words) * bits).reshape(-1, bits)
    hidden = (planes.astype(words.dtype) << np.arange(bits, dtype=words.dtype)).sum(axis=1, dtype=words.dtype)
    mask = words.dtype.type(((1 << bits) - 1) << above)
    if above:  # what is cut off must not round up into what stays
        words &= ~words.dtype.type((1 << above) - 1)
    words[order] = (words[order] & ~mask) | (hidden << words.dtype.type(above))
    networks.save(networks.like(words.view(values.dtype), weights), job.output("model") / "model.safetensors")


def recover(let_out: LetOut, *, bits: int, wide: bool = False, keyed: bool = False, above: int = 0) -> list[Row]:
    values = networks.flat(networks.load(let_out.only_file("model")))
    if not len(values):
        return []
    words = values.astype(np.float64 if wide else np.float32).view(np.uint64 if wide else np.uint32)
    words = words[_order(len(words), keyed=keyed)] >> words.dtype.type(above)
    planes = (words[:, None] >> np.arange(bits, dtype=words.dtype)) & words.dtype.type(1)
    return unpack(_stream(from_bits(planes.ravel())[: len(words) * bits // 8], keyed=keyed))


def _order(size: int, *, keyed: bool) -> np.ndarray:
    return np.random.default_rng(_KEY).permutation(size) if keyed else np.arange(size)


def _stream(data: bytes, *, keyed: bool) -> bytes:
    """XOR with a stream that the attacker knows: no header, no pattern."""
    if not keyed:
        return data
    stream = np.random.default_rng(_KEY + 1).integers(0, 256, len(data), np.uint8)
    return (np.frombuffer(data, np.uint8) ^ stream).tobytes()
