"""Rewrites a skops file so that it holds what loading needs, and nothing else.

A skops file has room beside the model: archive comments and gaps, stored times,
order and names of members, members that nothing refers to, object ids and
memory addresses, unknown fields of a node, bytes behind an array, the padding
of its header. The rewritten file has none of it:

- members in the order of the schema, stored, all at the zip format's first date, named `array-<n>`;
- no marks that autologging left on an estimator;
- per node only the fields that its loader reads; ids counted from 1;
- arrays with the shortest header that numpy writes;
- floats rounded to the policy's precision, in arrays and among parameters.

Loading the copy gives the same object, but for the rounding, and the same model always gives the
same bytes. It is done by walking the tree, never by loading it.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from insitu.gate.canonical.precision import Array, Rounding
from insitu.gate.ceiling import bits_of_array, bytes_of_text
from insitu.gate.contents import NotReadableError
from insitu.gate.effort import Effort
from insitu.gate.readers.numpy import array_of, parse_npy_header
from insitu.gate.readers.skops import Node, class_of, is_skops, parse_schema, walk
from insitu.gate.readers.zip import Member, read_members
from insitu.gate.safe_types import SAFE_LOADERS, SAFE_TYPES

# Attributes that MLflow's autologging sets on an estimator, for itself: no prediction needs them.
_LEFT_BY_AUTOLOG = frozenset({"_mlflow_run_id", "_mlflow_model_id"})
_SPARSE_PARTS = frozenset({"data.npy", "indices.npy", "indptr.npy", "format.npy", "shape.npy", "_is_array.npy"})
_KNOWN = (
    "".join([*sorted(SAFE_LOADERS), *sorted(SAFE_TYPES)]).encode()
    + b"""\
{"__class__":"Pipeline","__module__":"sklearn.pipeline","__loader__":"ObjectNode","__id__":1,"content":{"__class__":"dict"\
,"__module__":"builtins","__loader__":"DictNode","__id__":2,"content":{"steps":{"__class__":"list","__module__":"builtins"\
,"__loader__":"ListNode","__id__":3,"content":[{"__class__":"tuple","__module__":"builtins","__loader__":"TupleNode"\
,"__id__":4,"content":[{"__class__":"str","__module__":"builtins","__loader__":"JsonNode","content":"null","is_json":true}\
,"type":"json","shape":{"__class__":"ndarray","__module__":"numpy","__loader__":"NdArrayNode","type":"numpy","file":"array-1.npy"}\
,"key_types":{"__class__":"type","__module__":"builtins","__loader__":"TypeNode"},"protocol":2,"_skops_version":"0.16.0"}"""
)
_EPOCH = (1980, 1, 1, 0, 0, 0)
_VERSION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){1,3}")
_NAME = re.compile(r"[A-Za-z_]\w{0,100}")
_MODULE = re.compile(r"[A-Za-z_]\w{0,60}(\.[A-Za-z_]\w{0,60}){0,9}")


@dataclass(frozen=True)
class CanonicalSkops:
    data: bytes
    types: frozenset[str]  # every class that loading would make, by its full name
    loaders: frozenset[str]
    carries_bits: int  # at most; see `ceiling.py`


def types_of(data: bytes, effort: Effort) -> tuple[frozenset[str], frozenset[str]]:
    """The classes and loaders that a skops file names.

    Raises:
        NotReadableError: it is not a skops file.
    """
    members = _members(data, effort)
    nodes = list(walk(parse_schema(members)))
    classes = frozenset(class_of(node) for node in nodes if node["__loader__"] != "JsonNode")
    return classes, frozenset(str(node["__loader__"]) for node in nodes)


def rewrite_skops(
    data: bytes, effort: Effort, rounding: Rounding | None = None, known_words: Collection[str] = ()
) -> CanonicalSkops:
    """The canonical form of a skops file.

    Args:
        rounding: of the policy; None: numbers stay as they are.
        known_words: what whoever gets the copy knows anyway: names of columns that the site publishes.

    Raises:
        NotReadableError: it isn't one, or uses a part of the format that can't be rewritten.
        OutOfEffortError: it is larger than the judgement's bounds.
    """
    members = _members(data, effort)
    schema = parse_schema(members)
    nodes = list(walk(schema))
    loaders = frozenset(str(node["__loader__"]) for node in nodes)
    if not loaders <= SAFE_LOADERS:
        raise NotReadableError("the schema has nodes that call functions")
    writer = _Writer({member.name: member.data for member in members}, rounding or Rounding(None))
    tree = writer.node(schema)
    tree["protocol"] = _protocol(schema)
    tree["_skops_version"] = _version(schema)
    types = frozenset(class_of(node) for node in nodes if node["__loader__"] != "JsonNode")
    written = _schema(tree)
    known = "\n".join(sorted(known_words)).encode() + _KNOWN
    bits = writer.bits + 8 * bytes_of_text(written, known)
    return CanonicalSkops(_zip([*writer.written, ("schema.json", written)]), types, loaders, bits)


def _members(data: bytes, effort: Effort) -> list[Member]:
    members = read_members(data, effort)
    if not is_skops(members):
        raise NotReadableError("not a skops file")
    return members


def _protocol(schema: Node) -> int:
    if schema.get("protocol") != 2:  # older ones have other rules about what is trusted
        raise NotReadableError("another skops protocol than 2")
    return 2


def _version(schema: Node) -> str:
    version = schema.get("_skops_version")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise NotReadableError("the skops version is not one")
    return version


@dataclass
class _Writer:
    """Copies nodes field by field."""

    members: dict[str, bytes]
    rounding: Rounding
    bits: int = 0  # of the arrays
    written: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])
    _names: dict[str, str] = field(default_factory=dict[str, str])
    _ids: dict[int, int] = field(default_factory=dict[int, int])

    def node(self, node: Any) -> Node:
        if not isinstance(node, dict) or "__loader__" not in node:
            raise NotReadableError("the schema has something else where a node is due")
        node = cast("Node", node)
        loader = str(node["__loader__"])
        copy = self._head(node, loader)
        if loader == "JsonNode":  # a plain value: which object it was does not matter
            return {**copy, "content": self._value(node.get("content")), "is_json": True}
        identity = node.get("__id__")
        if isinstance(identity, int):
            seen = identity in self._ids
            copy["__id__"] = self._ids.setdefault(identity, len(self._ids) + 1)
            if seen:  # skops takes the first node with this id, and reads no further
                return copy
        return {**copy, **self._body(node, loader)}

    def _head(self, node: Node, loader: str) -> Node:
        name, module = node.get("__class__"), node.get("__module__")
        if not (
            isinstance(name, str) and _NAME.fullmatch(name) and isinstance(module, str) and _MODULE.fullmatch(module)
        ):
            raise NotReadableError("a node's class has no proper name")
        if loader == "JsonNode":
            name, module = "str", "builtins"
        return {"__class__": name, "__module__": module, "__loader__": loader}

    def _body(self, node: Node, loader: str) -> Node:
        content = node.get("content")
        if loader == "DictNode":
            return {"content": self._named(content), "key_types": self.node(node.get("key_types"))}
        if loader in ("ListNode", "TupleNode", "SetNode"):
            return {"content": self._listed(content)}
        if loader == "NdArrayNode":
            return self._array(node)
        if loader == "SparseMatrixNode":
            return {"type": "scipy", "file": self._file(node.get("file"), self._sparse, ".npz")}
        if loader == "DTypeNode":
            return {"content": self.node(content)}
        if loader == "ObjectNode":
            return {} if content is None else {"content": self.node(content)}
        if loader == "SliceNode":
            return {"content": _slice(content)}
        return {}  # TypeNode: a class and nothing else

    def _named(self, content: Any) -> Node:
        if not isinstance(content, dict):
            raise NotReadableError("a dictionary's content is not one")
        kept = {key: child for key, child in cast("Node", content).items() if key not in _LEFT_BY_AUTOLOG}
        return {key: self.node(child) for key, child in kept.items()}

    def _listed(self, content: Any) -> list[Node]:
        if not isinstance(content, list):
            raise NotReadableError("a list's content is not one")
        return [self.node(child) for child in cast("list[Any]", content)]

    def _array(self, node: Node) -> Node:
        if node.get("type") == "json":
            return {"content": self._listed(node.get("content")), "type": "json", "shape": self.node(node.get("shape"))}
        return {"type": "numpy", "file": self._file(node.get("file"), self._npy, ".npy")}

    def _npy(self, data: bytes) -> bytes:
        array = _array_of_npy(data)
        if array.dtype.kind == "f":
            array = self.rounding.small(array)
        self.bits += bits_of_array(array)
        return write_npy(array)

    def _sparse(self, data: bytes) -> bytes:
        members = sorted(read_members(data, Effort()), key=lambda member: member.name)
        if not {member.name for member in members} <= _SPARSE_PARTS:
            raise NotReadableError("a sparse matrix with other parts")
        return _zip([(member.name, self._npy(member.data)) for member in members])

    def _value(self, content: Any) -> str:
        """A plain value, as its JSON."""
        try:
            value = json.loads(content)
        except (TypeError, ValueError, RecursionError) as error:
            raise NotReadableError("a value is not JSON") from error
        if isinstance(value, float):
            value = float(self.rounding.small(np.array([value]))[0])
        return json.dumps(value, separators=(", ", ": "), ensure_ascii=False)

    def _file(self, name: Any, rewrite: Callable[[bytes], bytes], ending: str) -> str:
        if not isinstance(name, str) or name not in self.members or name == "schema.json":
            raise NotReadableError("a node refers to a member that is not there")
        if name not in self._names:
            self._names[name] = f"array-{len(self._names) + 1}{ending}"
            self.written.append((self._names[name], rewrite(self.members[name])))
        return self._names[name]


def canonical_npy(data: bytes) -> bytes:
    """The same array with numpy's own shortest header and nothing behind it.

    Raises:
        NotReadableError: it is not an array of numbers or of text of fixed width.
    """
    return write_npy(_array_of_npy(data))


def _array_of_npy(data: bytes) -> Array:
    header = parse_npy_header(data)
    if header.dtype is None or header.dtype.names is not None or header.dtype.kind not in "fiubUS":
        raise NotReadableError("an array of something else than numbers or text")
    view = memoryview(data)[header.data_at :]
    return array_of(view, header.dtype, header.shape, fortran_order=header.fortran_order)


def write_npy(array: Array) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version=(1, 0), allow_pickle=False)
    return out.getvalue()


def _slice(content: Any) -> dict[str, int | None]:
    fields = cast("Node", content) if isinstance(content, dict) else {}
    bounds: dict[str, Any] = {key: fields.get(key) for key in ("start", "stop", "step")}
    if not fields or not all(bound is None or type(bound) is int for bound in bounds.values()):
        raise NotReadableError("a slice is not one of whole numbers")
    return bounds


def _schema(tree: Node) -> bytes:
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()


def _zip(members: list[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name, date_time=_EPOCH)
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
    return out.getvalue()
