"""ONNX models as values: what the copy may have of a model, parsed from the wire format.

The messages are those of onnx/onnx.proto (IR version 4 to 13). Fields that say
something to people alone (names of nodes, documentation, producer, metadata,
inferred shapes) are not read. Fields that would change what a model does and
that the copy does not support (graphs inside of attributes, functions, sparse
tensors, training, data in other files) are refused.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from insitu.gate.canonical.precision import Array
from insitu.gate.contents import Data, NotReadableError
from insitu.gate.readers.protobuf import BYTES, FIXED32, VARINT, Field, fields, packed_varints, signed
from insitu.gate.readers.safetensors import brain_floats

Message = Mapping[int, list[Field]]
_T = TypeVar("_T")

TEXT_TYPE, HALF_TYPE, BRAIN_TYPE = 8, 10, 16
TYPES: Mapping[int, str] = {
    1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "u1", 10: "<f2", 11: "<f8", 12: "<u4",
    13: "<u8", 16: "<u2",
}  # fmt: skip
FLOAT, INT, STRING, TENSOR, FLOATS, INTS, STRINGS = 1, 2, 3, 4, 6, 7, 8
_DOMAINS = {"": "", "ai.onnx": "", "ai.onnx.ml": "ai.onnx.ml"}
_MAX_VERSION = 40
_IR_VERSIONS = (4, 13)


@dataclass(frozen=True)
class Tensor:
    type: int  # ONNX's number
    shape: tuple[int, ...]
    values: Array  # bfloat16 as float32; of text: empty
    texts: tuple[bytes, ...] = ()


Value = float | int | bytes | Tensor | Array | list[bytes]


@dataclass(frozen=True)
class Attribute:
    name: str
    type: int
    value: Value


@dataclass(frozen=True)
class Node:
    operator: str  # `ai.onnx.ml:Scaler`, `Relu`
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict[str, Attribute])


@dataclass(frozen=True)
class TypeOf:
    """A tensor of an element type and a shape (None: any length), or a sequence or map of another type."""

    element: int
    shape: tuple[int | None, ...] | None = None
    inner: TypeOf | None = None  # of a sequence or a map
    key: int = 0  # of a map; 0 for a sequence


@dataclass(frozen=True)
class Model:
    ir_version: int
    opsets: Mapping[str, int]
    nodes: tuple[Node, ...]
    constants: Mapping[str, Tensor]
    inputs: tuple[tuple[str, TypeOf], ...]
    outputs: tuple[tuple[str, TypeOf], ...]


def parse_model(data: Data) -> Model:
    """The model in the bytes of an ONNX file.

    Raises:
        NotReadableError: it is damaged, or uses what a copy can't have.
    """
    message = _message(data)
    _refuse(message, {20: "training", 25: "functions"})
    if len(message.get(7, ())) != 1:
        raise NotReadableError("not an ONNX model with one graph")
    graph = _message(message[7][0].data)
    _refuse(graph, {15: "sparse tensors"})
    constants = dict(_unique((name, tensor) for item in graph.get(5, ()) for name, tensor in [_named(item)]))
    inputs = tuple((name, kind) for name, kind in map(_value_info, graph.get(11, ())) if name not in constants)
    return Model(
        ir_version=min(max(_number(message, 1), _IR_VERSIONS[0]), _IR_VERSIONS[1]),
        opsets=dict(
            _unique(dict.fromkeys(_opset(item) for item in message.get(8, ())))
        ),  # converters repeat themselves
        nodes=tuple(_node(item) for item in graph.get(1, ())),
        constants=constants,
        inputs=inputs,
        outputs=tuple(map(_value_info, graph.get(12, ()))),
    )


def _message(data: Data) -> dict[int, list[Field]]:
    found: dict[int, list[Field]] = {}
    for item in fields(data):
        found.setdefault(item.number, []).append(item)
    return found


def _refuse(message: Message, parts: Mapping[int, str]) -> None:
    for number, what in parts.items():
        if number in message:
            raise NotReadableError(f"the model has {what}, which a copy can't have")


def _unique(pairs: Iterable[tuple[str, _T]]) -> Iterable[tuple[str, _T]]:
    seen: set[str] = set()
    for name, value in pairs:
        if name in seen:
            raise NotReadableError("a name stands for two things")
        seen.add(name)
        yield name, value


def _opset(item: Field) -> tuple[str, int]:
    message = _message(item.data)
    domain, version = _text(message, 1), _number(message, 2)
    if not 1 <= version <= _MAX_VERSION:
        raise NotReadableError("an operator set has no proper version")
    return _DOMAINS.get(domain, domain), version


def _node(item: Field) -> Node:
    message = _message(item.data)
    domain = _text(message, 7)
    operator = _text(message, 4)
    attributes = dict(_unique((one.name, one) for one in map(_attribute, message.get(5, ()))))
    known = _DOMAINS.get(domain, "another domain")
    return Node(f"{known}:{operator}" if known else operator, _texts(message, 1), _texts(message, 2), attributes)


def _attribute(item: Field) -> Attribute:
    message = _message(item.data)
    _refuse(message, {6: "graphs inside of it", 11: "graphs inside of it", 21: "functions", 22: "sparse tensors"})
    _refuse(
        message, {10: "lists of tensors", 14: "types as attributes", 15: "types as attributes", 23: "sparse tensors"}
    )
    readers = {
        FLOAT: lambda: struct.unpack("<f", _bits(message, 2))[0],
        INT: lambda: _number(message, 3),
        STRING: lambda: bytes(message[4][-1].data) if 4 in message else b"",
        TENSOR: lambda: _tensor(message[5][-1].data),
        FLOATS: lambda: _floats(message.get(7, []), "<f4"),
        INTS: lambda: _integers(message.get(8, [])),
        STRINGS: lambda: [bytes(each.data) for each in message.get(9, [])],
    }
    kind = _number(message, 20)
    if kind not in readers:
        raise NotReadableError("an attribute has a type that a copy can't have")
    try:
        return Attribute(_text(message, 1), kind, readers[kind]())
    except (LookupError, struct.error) as error:
        raise NotReadableError("an attribute has no value") from error


def _named(item: Field) -> tuple[str, Tensor]:
    return _text(_message(item.data), 8), _tensor(item.data)


def _tensor(data: Data) -> Tensor:
    message = _message(data)
    if 13 in message or _number(message, 14):
        raise NotReadableError("a tensor's data lies in another file")
    _refuse(message, {3: "tensors in segments"})
    kind = _number(message, 2)
    shape = tuple(int(size) for size in _integers(message.get(1, [])))
    if len(shape) > 8 or any(not 0 <= size < 2**40 for size in shape):
        raise NotReadableError("a tensor has no proper shape")
    if kind == TEXT_TYPE:
        texts = tuple(bytes(item.data) for item in message.get(6, []))
        if len(texts) != math.prod(shape):
            raise NotReadableError("a tensor's values don't fit its shape")
        return Tensor(kind, shape, np.empty(0), texts)
    if kind not in TYPES:
        raise NotReadableError("a tensor has a type that a copy can't have")
    values = _tensor_values(message, kind)
    if values.size != math.prod(shape):
        raise NotReadableError("a tensor's values don't fit its shape")
    return Tensor(kind, shape, values.reshape(shape))


def _tensor_values(message: Message, kind: int) -> Array:
    """From `raw_data`, or from the one typed field that ONNX names for the type."""
    dtype = np.dtype(TYPES[kind])
    if 9 in message:
        raw = message[9][-1].data
        if len(raw) % dtype.itemsize:
            raise NotReadableError("a tensor's values don't fit its type")
        values = np.frombuffer(raw, dtype=dtype)
    elif kind == 1:
        values = _floats(message.get(4, []), "<f4")
    elif kind == 11:
        values = _floats(message.get(10, []), "<f8")
    else:
        wide = _integers(message.get({7: 7, 12: 11, 13: 11}.get(kind, 5), []))
        bits = wide.astype(f"<u{dtype.itemsize}")
        values = bits.view(dtype) if kind == HALF_TYPE or dtype.kind == "i" else bits.astype(dtype)
    return brain_floats(values) if kind == BRAIN_TYPE else values


def _value_info(item: Field) -> tuple[str, TypeOf]:
    message = _message(item.data)
    if 2 not in message:
        raise NotReadableError("an input or output has no type")
    return _text(message, 1), _type_of(message[2][-1].data, 0)


def _type_of(data: Data, depth: int) -> TypeOf:
    message = _message(data)
    if depth > 3:
        raise NotReadableError("a type is nested too deep")
    if 1 in message:
        tensor = _message(message[1][-1].data)
        shape = tuple(map(_length, _message(tensor[2][-1].data).get(1, ()))) if 2 in tensor else None
        return TypeOf(_number(tensor, 1), shape)
    if 4 in message:
        return TypeOf(0, inner=_type_of(_message(message[4][-1].data)[1][-1].data, depth + 1))
    if 5 in message:
        map_ = _message(message[5][-1].data)
        return TypeOf(0, inner=_type_of(map_[2][-1].data, depth + 1), key=_number(map_, 1))
    raise NotReadableError("an input or output has another type than tensors and maps of numbers")


def _length(item: Field) -> int | None:
    message = _message(item.data)
    return _number(message, 1) if 1 in message else None


# ── Fields ──────────────────────────────────────────────────────────────────


def _number(message: Message, number: int) -> int:
    found = message.get(number)
    if not found:
        return 0
    if found[-1].wire_type != VARINT:
        raise NotReadableError("a field has another type than the format says")
    return signed(found[-1].value)


def _bits(message: Message, number: int) -> bytes:
    item = message[number][-1]
    if item.wire_type != FIXED32:
        raise NotReadableError("a field has another type than the format says")
    return item.value.to_bytes(4, "little")


def _text(message: Message, number: int) -> str:
    found = _texts(message, number)
    return found[-1] if found else ""


def _texts(message: Message, number: int) -> tuple[str, ...]:
    try:
        return tuple(str(item.data, "utf-8") for item in message.get(number, ()))
    except UnicodeDecodeError as error:
        raise NotReadableError("a name is not text") from error


def _integers(items: list[Field]) -> Array:
    parts = [packed_varints(item.data) if item.wire_type == BYTES else _single(item) for item in items]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def _single(item: Field) -> Array:
    if item.wire_type != VARINT:
        raise NotReadableError("a field has another type than the format says")
    return np.array([signed(item.value)], dtype=np.int64)


def _floats(items: list[Field], dtype: str) -> Array:
    width = np.dtype(dtype).itemsize
    data = b"".join(
        bytes(item.data) if item.wire_type == BYTES else item.value.to_bytes(width, "little") for item in items
    )
    if len(data) % width or any(item.wire_type == VARINT for item in items):
        raise NotReadableError("a list of numbers is damaged")
    return np.frombuffer(data, dtype=dtype)
