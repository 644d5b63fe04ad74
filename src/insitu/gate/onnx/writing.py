"""Writes an ONNX model in one way: fields in the order of their numbers, numbers of tensors as raw bytes.

Field numbers are those of onnx/onnx.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np

from insitu.gate.canonical.precision import Array
from insitu.gate.onnx.model import (
    BRAIN_TYPE,
    FLOAT,
    FLOATS,
    INT,
    INTS,
    STRING,
    STRINGS,
    TENSOR,
    TEXT_TYPE,
    TYPES,
    Attribute,
    Model,
    Node,
    Tensor,
    TypeOf,
)  # fmt: skip


def write_model(model: Model) -> bytes:
    graph = b"".join(
        [
            *(_bytes(1, _node(node)) for node in model.nodes),
            _bytes(2, b"graph"),
            *(_bytes(5, _tensor(tensor, name)) for name, tensor in model.constants.items()),
            *(_bytes(11, _value_info(name, kind)) for name, kind in model.inputs),
            *(_bytes(12, _value_info(name, kind)) for name, kind in model.outputs),
        ]
    )
    opsets = b"".join(
        _bytes(8, _bytes(1, domain.encode()) + _number(2, version)) for domain, version in model.opsets.items()
    )
    return _number(1, model.ir_version) + _bytes(7, graph) + opsets


def _node(node: Node) -> bytes:
    domain, _, operator = node.operator.rpartition(":")
    return b"".join(
        [
            *(_bytes(1, name.encode()) for name in node.inputs),
            *(_bytes(2, name.encode()) for name in node.outputs),
            _bytes(4, operator.encode()),
            *(_bytes(5, _attribute(one)) for one in node.attributes.values()),
            _bytes(7, domain.encode()) if domain else b"",
        ]
    )


def _attribute(attribute: Attribute) -> bytes:
    value = attribute.value
    written = b""
    if attribute.type == FLOAT and isinstance(value, float):
        written = _key(2, 5) + struct.pack("<f", value)
    elif attribute.type == INT and isinstance(value, int):
        written = _number(3, value)
    elif attribute.type == STRING and isinstance(value, bytes):
        written = _bytes(4, value)
    elif attribute.type == TENSOR and isinstance(value, Tensor):
        written = _bytes(5, _tensor(value, ""))
    elif attribute.type == FLOATS and isinstance(value, np.ndarray):
        written = _bytes(7, value.astype("<f4").tobytes())
    elif attribute.type == INTS and isinstance(value, np.ndarray):
        written = _bytes(8, _packed(value.tolist()))
    elif attribute.type == STRINGS and isinstance(value, list):
        written = b"".join(_bytes(9, text) for text in value)
    return _bytes(1, attribute.name.encode()) + written + _number(20, attribute.type)


def _tensor(tensor: Tensor, name: str) -> bytes:
    if tensor.type == TEXT_TYPE:
        stored = b"".join(_bytes(6, text) for text in tensor.texts)
        values = b""
    else:
        stored = b""
        values = _bytes(9, _raw(tensor.values, tensor.type))
    named = _bytes(8, name.encode()) if name else b""
    shape = _bytes(1, _packed(tensor.shape)) if tensor.shape else b""
    return shape + _number(2, tensor.type) + stored + named + values


def _raw(values: Array, kind: int) -> bytes:
    if kind == BRAIN_TYPE:
        return (np.ascontiguousarray(values, dtype=np.float32).view(np.uint32) >> np.uint32(16)).astype("<u2").tobytes()
    return values.astype(TYPES[kind]).tobytes()


def _value_info(name: str, kind: TypeOf) -> bytes:
    return _bytes(1, name.encode()) + _bytes(2, _type(kind))


def _type(kind: TypeOf) -> bytes:
    if kind.inner is not None and kind.key:
        return _bytes(5, _number(1, kind.key) + _bytes(2, _type(kind.inner)))
    if kind.inner is not None:
        return _bytes(4, _bytes(1, _type(kind.inner)))
    shape = b""
    if kind.shape is not None:
        shape = _bytes(2, b"".join(_bytes(1, b"" if size is None else _number(1, size)) for size in kind.shape))
    return _bytes(1, _number(1, kind.element) + shape)


# ── Wire format (protobuf.dev, "Encoding") ──────────────────────────────────


def _key(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _number(number: int, value: int) -> bytes:
    return _key(number, 0) + _varint(value)


def _bytes(number: int, value: bytes) -> bytes:
    return _key(number, 2) + _varint(len(value)) + value


def _packed(values: Iterable[int]) -> bytes:
    return b"".join(_varint(value) for value in values)


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
