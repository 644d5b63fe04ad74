"""Rewrites safetensors: eight bytes of length, a JSON header, and the tensors without a gap.

The format (huggingface/safetensors, `README.md`, "Format") has room in its
`__metadata__`, in spaces, order and escapes of the header, in the order of the
tensors, and in the numbers. The copy has the tensors alone: widest type first and then by
name, as the library itself writes them, rounded to the policy's precision.

Names that are not ordinary become `tensor_1`, `tensor_2`, in an order that
depends on nothing but the tensors. Neurons that nothing listens to are cleared
(`canonical/dead_neurons.py`): their incoming weights could be anything.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from insitu.gate.canonical.dead_neurons import clear_in_chain
from insitu.gate.canonical.form import Canonical, is_identifier
from insitu.gate.canonical.precision import Array, Rounding
from insitu.gate.ceiling import bits_of_array, bytes_of_text
from insitu.gate.contents import NotReadableError
from insitu.gate.effort import Effort
from insitu.gate.readers.safetensors import Layout, Tensor, parse_layout, values_of

_MAX_DIMENSIONS = 8
_ALIGNED = 8
_KNOWN = (
    b'{"layers.0.weight":{"dtype":"F32","shape":[64,64],"data_offsets":[0,16384]},"fc1.bias":{"dtype":"F32","shape":['
)


@dataclass(frozen=True)
class Written:
    """A tensor of the copy."""

    name: str
    dtype: str  # safetensors' word
    values: Array  # bfloat16 as float32

    @property
    def stored(self) -> bytes:
        if self.dtype == "BF16":
            return (self.values.view(np.uint32) >> np.uint32(16)).astype("<u2").tobytes()
        return self.values.astype(self.values.dtype.newbyteorder("<"), copy=False).tobytes()

    @property
    def width(self) -> int:
        return 2 if self.dtype == "BF16" else self.values.dtype.itemsize


def rewrite_safetensors(data: bytes, rounding: Rounding, effort: Effort) -> Canonical:
    """The canonical form of a safetensors file.

    Raises:
        NotReadableError: it isn't one, or has gaps, overlaps, repeated names or types that are not listed.
        OutOfEffortError: it is larger than the judgement's bounds.
    """
    layout = parse_layout(data)
    _check_no_gaps(layout, len(data))
    for _ in layout.tensors:
        effort.spend_member()
    found = [Written(tensor.name, tensor.dtype, _values(data, tensor)) for tensor in layout.tensors]
    rounded = [replace(one, values=rounding.weights(one.values)) for one in found]
    cleared = clear_in_chain({one.name: one.values for one in rounded}, rounding.weights)
    tensors = _in_order([replace(one, values=cleared.get(one.name, one.values)) for one in rounded])
    header, body = _layout(tensors)
    structure = "\n".join(f"{one.name} {one.dtype}" for one in tensors).encode()
    return Canonical(
        len(header).to_bytes(8, "little") + header + body,
        "safetensors",
        8 * bytes_of_text(structure, _KNOWN) + sum(bits_of_array(one.values) for one in tensors),
        dropped=("metadata",) * bool(layout.metadata)
        + ("odd tensor names",) * any(not is_identifier(one.name) for one in found)
        + ("dead neurons",) * bool(cleared),
    )


def _check_no_gaps(layout: Layout, size: int) -> None:
    """The library loads no file with gaps or overlaps, and this one writes none."""
    at = layout.header_end
    for tensor in sorted(layout.tensors, key=lambda one: (one.start, one.end)):
        if tensor.start != at:
            raise NotReadableError("there are gaps between the tensors, or one lies over another")
        at = tensor.end
    if at != size:
        raise NotReadableError("there are bytes behind the tensors")


def _values(data: bytes, tensor: Tensor) -> Array:
    values = values_of(data, tensor)
    if len(tensor.shape) > _MAX_DIMENSIONS:
        raise NotReadableError("a tensor has too many dimensions")
    if tensor.dtype == "BOOL" and values.size and values.max() > 1:
        raise NotReadableError("a boolean is neither true nor false")
    return values


def _in_order(tensors: list[Written]) -> list[Written]:
    """Widest first, then by name; odd names are given anew, after everything else is settled."""
    plain = [one for one in tensors if is_identifier(one.name)]
    odd = sorted((one for one in tensors if not is_identifier(one.name)), key=_content)
    taken = {one.name for one in plain}
    fresh = (name for number in range(1, 2 + len(tensors) * 2) if (name := f"tensor_{number}") not in taken)
    plain += [replace(one, name=next(fresh)) for one in odd]
    return sorted(plain, key=lambda one: (-one.width, one.name))


def _content(tensor: Written) -> tuple[str, tuple[int, ...], bytes]:
    return tensor.dtype, tensor.values.shape, hashlib.sha256(tensor.stored).digest()


def _layout(tensors: list[Written]) -> tuple[bytes, bytes]:
    header: dict[str, Any] = {}
    parts: list[bytes] = []
    at = 0
    for one in tensors:
        parts.append(one.stored)
        header[one.name] = {
            "dtype": one.dtype,
            "shape": list(one.values.shape),
            "data_offsets": [at, at + len(parts[-1])],
        }
        at += len(parts[-1])
    text = json.dumps(header, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % _ALIGNED), b"".join(parts)
