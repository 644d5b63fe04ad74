"""Reads safetensors files: tensors as views, names and metadata as text, and every byte that no tensor claims.

Format: eight bytes of length, a JSON header of `{name: {dtype, shape,
data_offsets}}` with `__metadata__`, then the data
(github.com/huggingface/safetensors, README). The library refuses holes and
overlaps; here they are read, since whoever writes them means something by it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from insitu.gate.contents import Coverage, Data, NotReadableError, Numbers, Place

_MAX_HEADER = 32 << 20
_METADATA = "__metadata__"
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "u1",
    "BF16": "<u2",  # bits of a float; see `values_of`
    "F8_E4M3": "u1",  # bytes: eight bits hold no cell of a table
    "F8_E5M2": "u1",
}


@dataclass(frozen=True)
class Tensor:
    """One entry of the header. `start` and `end` are places in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Layout:
    """What a header says, in the header's order."""

    tensors: tuple[Tensor, ...]
    metadata: dict[str, Any]
    header_end: int


def is_safetensors(data: Data) -> bool:
    head = bytes(data[:9])
    return len(head) == 9 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= len(data) - 8


def parse_layout(data: Data) -> Layout:
    """The header's entries, each checked to lie within the file and to be as long as its shape needs.

    Raises:
        NotReadableError: the header is not one.
    """
    size = int.from_bytes(data[:8], "little")
    if not is_safetensors(data) or size > _MAX_HEADER:
        raise NotReadableError("not a safetensors file")
    try:
        header = json.loads(bytes(data[8 : 8 + size]), object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError) as error:
        raise NotReadableError("safetensors header is not JSON") from error
    if not isinstance(header, dict):
        raise NotReadableError("safetensors header is not an object")
    entries = cast("dict[str, Any]", header)
    metadata = entries.pop(_METADATA, {})
    if not isinstance(metadata, dict):
        raise NotReadableError("safetensors metadata is not an object")
    tensors = tuple(_tensor(name, entry, 8 + size, len(data)) for name, entry in entries.items())
    return Layout(tensors, cast("dict[str, Any]", metadata), 8 + size)


def _tensor(name: str, entry: Any, base: int, size: int) -> Tensor:
    fields = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
    dtype = fields.get("dtype")
    shape, offsets = _whole_numbers(fields.get("shape")), _whole_numbers(fields.get("data_offsets"))
    if set(fields) != {"dtype", "shape", "data_offsets"} or not isinstance(dtype, str) or dtype not in _DTYPES:
        raise NotReadableError("safetensors entry is not understood")
    if len(offsets) != 2:
        raise NotReadableError("safetensors entry is not understood")
    start, end = base + offsets[0], base + offsets[1]
    if not base <= start <= end <= size or math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize != end - start:
        raise NotReadableError("safetensors entry does not fit the file")
    return Tensor(name, dtype, shape, start, end)


def _whole_numbers(value: Any) -> tuple[int, ...]:
    items = cast("list[Any]", value) if isinstance(value, list) else []
    if not isinstance(value, list) or not all(type(item) is int and 0 <= item < 2**48 for item in items):
        raise NotReadableError("safetensors entry is not understood")
    return tuple(items)


def values_of(data: Data, tensor: Tensor) -> Numbers:
    """The tensor's values, sharing the file's memory where numpy has its type."""
    raw = np.frombuffer(data, dtype=_DTYPES[tensor.dtype], count=math.prod(tensor.shape), offset=tensor.start)
    if tensor.dtype == "BF16":
        return brain_floats(raw).reshape(tensor.shape)
    return raw.reshape(tensor.shape)


def brain_floats(bits: Numbers) -> Numbers:
    """bfloat16 as float32: the upper half of its bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def read_safetensors(data: Data, place: Place) -> None:
    """Take every tensor, all names and metadata, and the bytes that are neither.

    Raises:
        NotReadableError: it is not a safetensors file.
    """
    layout = parse_layout(data)
    place.add_kind("safetensors")
    _read_header(data, layout, place)
    covered = Coverage(len(data))
    covered.add(0, layout.header_end)
    # In the order of the data, which may differ from the header's: a stream cut into tensors goes on from one to the next.
    for number, tensor in enumerate(sorted(layout.tensors, key=lambda tensor: tensor.start), start=1):
        place.effort.spend_member()
        covered.add(tensor.start, tensor.end)
        place.add_numbers(values_of(data, tensor), f"tensor {number}")
    covered.read_holes(data, place)


def _read_header(data: Data, layout: Layout, place: Place) -> None:
    header = bytes(data[8 : layout.header_end])
    padding = header[header.rindex(b"}") + 1 :]
    place.read(padding.strip(b" "), "header padding")
    place.read("\n".join(tensor.name for tensor in layout.tensors).encode(errors="replace"), "names")
    for number, item in enumerate(layout.metadata.items(), start=1):
        for part in item:
            text = part if isinstance(part, str) else json.dumps(part)
            place.read(text.encode(errors="replace"), f"metadata {number}")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):  # two readers might each take another one of them
        raise NotReadableError("safetensors header has a repeated key")
    return fields
