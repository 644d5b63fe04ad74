"""Reads ONNX models: every tensor wherever it stands, every name, text and unknown field.

The messages are ONNX's (onnx/onnx.proto, release 1.17), as far as they hold
others: what a field means matters only where it is a message or a tensor. All
other bytes are text or unknown, and are read as such. Attributes with lists of
numbers are arrays: trees and support vectors of converted models stand there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from insitu.gate.contents import Data, NotReadableError, Numbers, Place
from insitu.gate.readers.numpy import array_of
from insitu.gate.readers.protobuf import BYTES, FIXED64, VARINT, Field, fields, packed_varints, signed
from insitu.gate.readers.safetensors import brain_floats

_MAX_DEPTH = 60  # messages in messages; graphs in attributes of graphs
_TOP_FIELDS = {1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}
_GRAPH = 7

# Message → field number → the message that stands there.
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "opset", 14: "pair", 20: "training", 25: "function", 26: "other"},
    "training": {1: "graph", 2: "graph", 3: "pair", 4: "pair"},
    "graph": {
        1: "node",
        5: "tensor",
        11: "value info",
        12: "value info",
        13: "value info",
        14: "quantisation",
        15: "sparse",
        16: "pair",
    },
    "quantisation": {2: "pair"},
    "node": {5: "attribute", 9: "pair"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        14: "type",
        15: "type",
        22: "sparse",
        23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "function": {7: "node", 9: "opset", 11: "attribute", 12: "value info", 14: "pair"},
    "value info": {2: "type", 4: "pair"},
    "type": {1: "tensor type", 4: "sequence type", 5: "map type", 8: "tensor type", 9: "sequence type"},
    "sequence type": {1: "type"},
    "map type": {2: "type"},
    "tensor type": {2: "shape"},
    "shape": {1: "dimension"},
    "dimension": {},
    "opset": {},
    "pair": {},
    "other": {},
}
_NUMBERS_OF_ATTRIBUTES = {2: "f", 3: "i", 7: "f", 8: "i"}  # f, i, floats, ints

_TYPES = {
    1: "<f4",
    2: "u1",
    3: "i1",
    4: "<u2",
    5: "<i2",
    6: "<i4",
    7: "<i8",
    9: "u1",
    10: "<f2",
    11: "<f8",
    12: "<u4",
    13: "<u8",
    14: "<c8",
    15: "<c16",
    16: "<u2",  # bfloat16
    **dict.fromkeys((17, 18, 19, 20, 21, 22, 23, 24), "u1"),  # eight bits and fewer
}
_BRAIN, _HALF, _TEXT = 16, 10, 8


def is_onnx(data: Data) -> bool:
    """A message of the fields that a model has, with a graph among them: ONNX has no magic."""
    if bytes(data[:1]) not in (b"\x08", b"\x12", b"\x1a", b"\x3a", b"\x42"):
        return False
    try:
        numbers = {(item.number, item.wire_type) for item in fields(data)}
    except NotReadableError:
        return False
    return {number for number, _ in numbers} <= _TOP_FIELDS and (_GRAPH, BYTES) in numbers


def read_onnx(data: Data, place: Place) -> None:
    """Take the whole model.

    Raises:
        NotReadableError: a message in it is damaged.
    """
    place.add_kind("onnx")
    reader = _Reader(place)
    reader.message(data, "model", 0)
    reader.finish()


@dataclass
class _Tensor:
    """What the fields of one TensorProto say."""

    dims: list[int] = field(default_factory=list[int])
    type: int = 0
    raw: memoryview | None = None
    typed: list[Numbers] = field(default_factory=list[Numbers])


@dataclass
class _Reader:
    place: Place
    tensors: int = 0
    names: list[str] = field(default_factory=list[str])
    loose: list[float] = field(default_factory=list[float])
    unknown: int = 0

    def message(self, data: Data, kind: str, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise NotReadableError("ONNX messages nested too deep")
        self.place.effort.check_time()
        inner = _MESSAGES[kind]
        lists: dict[str, list[Numbers]] = {"f": [], "i": []}
        for item in fields(data):
            what = inner.get(item.number) if item.wire_type == BYTES else None
            if what == "tensor":
                self.tensor(item.data)
            elif what is not None:
                self.message(item.data, what, depth + 1)
            elif kind == "attribute" and item.number in _NUMBERS_OF_ATTRIBUTES:
                lists[_NUMBERS_OF_ATTRIBUTES[item.number]].append(_numbers(item, item.number in (2, 7)))
            else:
                self.other(item)
        for values in lists.values():
            self.add(values)

    def other(self, item: Field) -> None:
        """A field that is no message: a number, a text, or something that no model has."""
        if item.wire_type == BYTES:
            text = _short_text(item.data)
            if text is None:
                self.unknown += 1
                self.place.read(item.data, f"field {self.unknown}", guessed=True)
            else:
                self.names.append(text)
        elif item.wire_type == VARINT:
            self.loose.append(float(signed(item.value)))
        else:
            self.loose.append(float(_fixed(item)))

    def tensor(self, data: Data) -> None:
        self.place.effort.spend_member()
        tensor = _Tensor()
        for item in fields(data):
            step = _TENSOR_FIELDS.get(item.number)
            if step is None or not step(tensor, item):
                self.other(item)
        self._add_tensor(tensor)

    def _add_tensor(self, tensor: _Tensor) -> None:
        shape = tuple(tensor.dims)
        if any(not 0 <= size < 2**48 for size in shape):
            raise NotReadableError("ONNX tensor without a proper shape")
        if tensor.raw is not None:
            self._add_raw(tensor.raw, tensor.type, shape)
        elif not tensor.typed and tensor.type not in (0, _TEXT) and math.prod(shape):
            self.place.add_unread("a tensor without its data")
        for values in tensor.typed:
            if tensor.type in (_HALF, _BRAIN) and values.dtype.kind == "i":
                bits = values.astype(np.uint16)
                floats = brain_floats(bits) if tensor.type == _BRAIN else bits.view(np.float16)
                self._add_shaped(floats, shape)
            else:
                self._add_shaped(values, shape)

    def _add_shaped(self, values: Numbers, shape: tuple[int, ...]) -> None:
        self.add([values.reshape(shape) if values.size == math.prod(shape) else values])

    def _add_raw(self, raw: memoryview, type_: int, shape: tuple[int, ...]) -> None:
        name = _TYPES.get(type_)
        if name is None:
            self.place.read(raw, "tensor of an unknown type", guessed=True)
            return
        dtype = np.dtype(name)
        if math.prod(shape) * dtype.itemsize > len(raw):  # e.g. packed four-bit integers
            shape = (len(raw) // dtype.itemsize,)
        values = array_of(raw, dtype, shape, fortran_order=False)
        self.add([brain_floats(values) if type_ == _BRAIN else values])
        self.place.read(raw[values.nbytes :], "behind a tensor", guessed=True)

    def add(self, parts: list[Numbers]) -> None:
        values = parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.empty(0)
        if values.size < 3:
            self.loose += [float(value) for value in np.real(values).reshape(-1)]
            return
        self.tensors += 1
        self.place.add_numbers(values, f"tensor {self.tensors}")

    def finish(self) -> None:
        if self.names:
            self.place.read("\n".join(self.names).encode(errors="replace"), "names and text")
        if len(self.loose) >= 3:
            self.place.add_numbers(np.array(self.loose), "single numbers")


# ── Fields of a tensor: each step says whether the field is what it should be ──


def _dims(tensor: _Tensor, item: Field) -> bool:
    if item.wire_type == BYTES:
        tensor.dims += [int(size) for size in packed_varints(item.data)]
        return True
    tensor.dims.append(signed(item.value))
    return item.wire_type == VARINT


def _type(tensor: _Tensor, item: Field) -> bool:
    tensor.type = item.value
    return item.wire_type == VARINT


def _raw(tensor: _Tensor, item: Field) -> bool:
    if item.wire_type != BYTES or tensor.raw is not None:
        return False
    tensor.raw = item.data
    return True


def _typed(dtype: str) -> Callable[[_Tensor, Field], bool]:
    def step(tensor: _Tensor, item: Field) -> bool:
        if item.wire_type != BYTES:
            return False
        whole = len(item.data) // np.dtype(dtype).itemsize
        tensor.typed.append(np.frombuffer(item.data, dtype=dtype, count=whole))
        return whole * np.dtype(dtype).itemsize == len(item.data)

    return step


def _varints(tensor: _Tensor, item: Field) -> bool:
    tensor.typed.append(_numbers(item, is_float=False))
    return item.wire_type in (VARINT, BYTES)


_TENSOR_FIELDS: dict[int, Callable[[_Tensor, Field], bool]] = {
    1: _dims,
    2: _type,
    4: _typed("<f4"),
    5: _varints,
    7: _varints,
    9: _raw,
    10: _typed("<f8"),
    11: _varints,
}


def _numbers(item: Field, is_float: bool) -> Numbers:
    """One field of an attribute: a number, or many packed ones."""
    if item.wire_type == VARINT:
        return np.array([signed(item.value)], dtype=np.int64)
    if item.wire_type != BYTES:
        return np.array([_fixed(item)])
    if is_float:
        return np.frombuffer(item.data, dtype="<f4", count=len(item.data) // 4)
    return packed_varints(item.data)


def _fixed(item: Field) -> float:
    size = 8 if item.wire_type == FIXED64 else 4
    return float(np.frombuffer(item.value.to_bytes(size, "little"), dtype="<f8" if size == 8 else "<f4")[0])


def _short_text(data: memoryview) -> str | None:
    """A name or a note on one line; longer and other things are read for what they are."""
    if len(data) > 512:
        return None
    try:
        text = str(data, "utf-8")
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None
