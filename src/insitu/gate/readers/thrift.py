"""Thrift's compact protocol, without a schema: structs as field number → value (Apache Thrift, compact protocol).

Values are integers, bytes, lists, and structs again; doubles come as eight
bytes. That is all that parquet's footers and page headers are made of.
"""

from __future__ import annotations

from typing import Any

from insitu.gate.contents import Data, NotReadableError
from insitu.gate.readers.protobuf import read_varint

Struct = dict[int, Any]

_MAX_DEPTH = 32
_MAX_ITEMS = 2_000_000  # over one document
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)


def read_struct(data: Data, at: int = 0) -> tuple[Struct, int]:
    """The struct at `at`, and the place behind it.

    Raises:
        NotReadableError: there is none.
    """
    reader = _Reader(memoryview(data), at)
    try:
        return reader.struct(0), reader.at
    except IndexError as error:
        raise NotReadableError("thrift data is cut off") from error


class _Reader:
    def __init__(self, view: memoryview, at: int) -> None:
        self._view = view
        self.at = at
        self._items = 0

    def struct(self, depth: int) -> Struct:
        fields: Struct = {}
        number = 0
        while head := self._byte():
            delta, kind = head >> 4, head & 15
            number = number + delta if delta else self._zigzag()
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        self._items += 1
        if depth > _MAX_DEPTH:
            raise NotReadableError("thrift data nested too deep")
        if self._items > _MAX_ITEMS:
            raise NotReadableError("thrift data with too many values")
        if kind in (_TRUE, _FALSE):  # inside a list
            return self._byte() == 1
        if kind == _BYTE:
            return self._byte()
        if kind in (_I16, _I32, _I64):
            return self._zigzag()
        if kind == _DOUBLE:
            return self._take(8)
        if kind == _BINARY:
            return self._take(self._varint())
        if kind in (_LIST, _SET):
            head = self._byte()
            size = head >> 4 if head >> 4 != 15 else self._varint()
            return [self._value(head & 15, depth + 1) for _ in range(self._bounded(size))]
        if kind == _MAP:
            size = self._varint()
            kinds = self._byte() if size else 0
            pairs = range(self._bounded(size))
            return [(self._value(kinds >> 4, depth + 1), self._value(kinds & 15, depth + 1)) for _ in pairs]
        if kind == _STRUCT:
            return self.struct(depth + 1)
        raise NotReadableError("thrift value of an unknown type")

    def _bounded(self, size: int) -> int:
        if size > len(self._view) - self.at:  # each item takes a byte at least
            raise NotReadableError("thrift data is cut off")
        return size

    def _byte(self) -> int:
        self.at += 1
        return self._view[self.at - 1]

    def _varint(self) -> int:
        value, self.at = read_varint(self._view, self.at)
        return value

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _take(self, size: int) -> bytes:
        if size > len(self._view) - self.at:
            raise NotReadableError("thrift data is cut off")
        self.at += size
        return bytes(self._view[self.at - size : self.at])
