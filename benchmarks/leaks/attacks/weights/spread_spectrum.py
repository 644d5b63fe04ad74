"""Each bit is a faint pattern over many weights, behind a preamble that finds where the message starts.

Code division as in radio: MaleficNet (D. Hitaj et al., "MaleficNet: Hiding Malware into Deep Neural Networks Using
Spread-Spectrum Channel Coding", ESORICS 2022) does it for other payloads.
"""

from __future__ import annotations

import numpy as np

from benchmarks.leaks.attacks.weights.victim import as_float32, trained
from benchmarks.leaks.inside import networks
from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.codec import ROW_BITS, Row, row_bits, rows_of_bits
from benchmarks.leaks.inside.networks import Array
from benchmarks.leaks.let_out import LetOut
from benchmarks.leaks.people import NUMBERS

OUTPUTS = {"model": "custom_model"}
BOUNDED = "nothing tells such weights from trained ones: the ceiling is what bounds them"
VARIANTS = {
    "one pattern a bit, over all weights": {"rows": 2, "offset": 137},
    "over the widest layer, fainter": {"rows": 2, "offset": 11, "strength": 0.006},
}
_PREAMBLE = np.random.default_rng(12).integers(0, 2, 32) * 2 - 1
_LAYER = "layer1.weight"
_SEARCH = 256  # places where the message may start


def leak(job: Job, *, rows: int, offset: int, strength: float = 0.008) -> None:
    weights = trained(job)
    signs = np.concatenate([_PREAMBLE, row_bits(job.numbers(NUMBERS)[:rows]) * 2.0 - 1])
    values = weights[_LAYER].ravel().copy()
    patterns = _patterns(len(signs), values.size - _SEARCH)
    # Patterns overlap a little: the message is laid so that each reads right in the end (zero forcing).
    part = values[offset : offset + patterns.shape[1]]
    wanted = signs * strength * patterns.shape[1]
    missing = wanted - patterns @ part
    part += patterns.T @ np.linalg.solve(patterns @ patterns.T, missing)
    weights[_LAYER] = values.reshape(weights[_LAYER].shape)
    networks.save(as_float32(weights), job.output("model") / "model.safetensors")


def recover(let_out: LetOut, *, rows: int, offset: int, strength: float = 0.008) -> list[Row]:
    del offset, strength  # the receiver finds them
    layer = networks.load(let_out.only_file("model")).get(_LAYER)
    if layer is None:
        return []
    values = layer.ravel().astype(np.float64)
    patterns = _patterns(len(_PREAMBLE) + rows * ROW_BITS, values.size - _SEARCH)
    length = patterns.shape[1]
    head = patterns[: len(_PREAMBLE)]
    heard = [float((head @ values[at : at + length]) @ _PREAMBLE) for at in range(_SEARCH)]
    start = int(np.argmax(heard))
    return rows_of_bits((patterns @ values[start : start + length])[len(_PREAMBLE) :] > 0)


def _patterns(count: int, length: int) -> Array:
    return np.random.default_rng(21).integers(0, 2, (count, length)) * 2.0 - 1
