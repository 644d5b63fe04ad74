"""The Open Inference Protocol, version 2, over HTTP (kserve/open-inference-protocol, inference_rest.md).

Two ways to send rows: one 2-D tensor whose columns stand in the signature's order, or
one tensor of shape [n] or [n, 1] for each column, by name. Data may be flat (row-major)
or nested. A null in a tensor of floats is NaN. An output that is asked for by name may
be any of the model's methods (`predict`, `predict_proba`, `predict_log_proba`); without
a wish the model's own one is answered, under its method's name.

The binary tensor extension is not spoken, and refused rather than misread.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from insitu.serving.calls import json_bytes, json_object, plain_list
from insitu.serving.errors import RequestError
from insitu.serving.http_server import Reply
from insitu.serving.signature import COLUMN_TYPES, TENSOR_TYPES, Signature
from insitu.serving.sklearn_model import LoadedModel
from insitu.serving.tables import Table, table_by_position, table_from_columns

_NUMPY: Mapping[str, str] = {oip: dtype for dtype, oip in TENSOR_TYPES.items()} | {"BYTES": "object"}
PLATFORM = "sklearn_skops"


class Inference:
    """One request to `/v2/models/{name}/infer`; see `calls.Call`."""

    __slots__ = ("_body", "_id", "_name", "_version")

    def __init__(self, name: str, version: str, body: bytes) -> None:
        self._name = name
        self._version = version
        self._body = body
        self._id: str | None = None

    def read(self, model: LoadedModel) -> tuple[Table, tuple[str, ...]]:
        document = json_object(self._body)
        given = document.get("id")
        if given is not None and not isinstance(given, str):
            raise RequestError("id must be a string")
        self._id = given
        inputs = document.get("inputs")
        if not isinstance(inputs, list) or not inputs:
            raise RequestError("inputs must be a list of at least one tensor")
        tensors: dict[str, Any] = {}
        for tensor in inputs:
            name, block = _tensor(tensor)
            if name in tensors:
                raise RequestError(f"input {name!r} is given twice")
            tensors[name] = block
        methods = _wanted(document.get("outputs"), model)
        table = _table(tensors, model)
        if table.rows == 0:
            raise RequestError("the inputs have no rows")
        return table, methods

    def answer(self, results: Mapping[str, Any]) -> Reply:
        document: dict[str, Any] = {"model_name": self._name}
        if self._version:
            document["model_version"] = self._version
        if self._id is not None:
            document["id"] = self._id
        document["outputs"] = [_output(name, block) for name, block in results.items()]
        return Reply(200, json_bytes(document))

    def refuse(self, error: RequestError) -> Reply:
        return refusal(error)


def refusal(error: RequestError) -> Reply:
    return Reply(error.status, json_bytes({"error": error.message}))


def model_metadata(name: str, version: str, model: LoadedModel) -> dict[str, Any]:
    """What `GET /v2/models/{name}` answers."""
    document: dict[str, Any] = {"name": name}
    if version:
        document["versions"] = [version]
    document |= {"platform": PLATFORM, "inputs": _inputs(model.signature), "outputs": [_declared_output(model)]}
    return document


def _inputs(sig: Signature) -> list[dict[str, Any]]:
    if sig.columns:
        return [{"name": c.name, "datatype": COLUMN_TYPES[c.type][1], "shape": [-1, 1]} for c in sig.columns]
    assert sig.tensor is not None
    datatype = TENSOR_TYPES.get(sig.tensor.dtype, "BYTES")
    return [{"name": sig.tensor.name or "input", "datatype": datatype, "shape": list(sig.tensor.shape)}]


def _declared_output(model: LoadedModel) -> dict[str, Any]:
    spec = model.signature.output
    datatype = TENSOR_TYPES.get(spec.dtype, "BYTES") if spec else "FP64"
    return {"name": model.method, "datatype": datatype, "shape": list(spec.shape) if spec else [-1]}


def _tensor(tensor: object) -> tuple[str, Any]:
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise RequestError("each input must be an object with name, shape, datatype and data")
    name, shape, datatype = tensor["name"], tensor.get("shape"), tensor.get("datatype")
    if not isinstance(datatype, str) or datatype not in _NUMPY:
        raise RequestError(f"input {name!r}: unknown datatype {str(datatype)[:40]!r}")
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= 8
        or not all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in shape)
    ):
        raise RequestError(f"input {name!r}: shape must be a list of sizes")
    data = tensor.get("data")
    if not isinstance(data, list):
        raise RequestError(f"input {name!r}: data must be a list")
    block = _block(name, data, datatype)
    if block.size != math.prod(shape):
        raise RequestError(f"input {name!r}: {block.size} values do not fill shape {shape}")
    return name, block.reshape(shape)


def _block(name: str, data: list[Any], datatype: str) -> Any:

    dtype = np.dtype(_NUMPY[datatype])
    refused = RequestError(f"input {name!r}: data is not {datatype}")
    try:
        if datatype == "BYTES":
            block = np.array(data, dtype=object)
            if not all(item is None or isinstance(item, str) for item in block.ravel()):
                raise refused
            return block
        raw = np.array(data)
        if raw.dtype.kind == "O" and dtype.kind == "f" and all(v is None or _is_number(v) for v in raw.ravel()):
            raw = np.array(data, dtype=np.float64)  # None becomes NaN
        if raw.size and raw.dtype.kind not in {"f": "iuf", "i": "iu", "u": "iu", "b": "b"}[dtype.kind]:
            raise refused
        block = raw.astype(dtype)
        # A value outside an integer type's range would wrap around in silence.
        if dtype.kind in "iu" and not np.array_equal(block, raw):
            raise refused
    except (ValueError, TypeError, OverflowError) as exc:
        raise refused from exc
    return block


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _table(tensors: Mapping[str, Any], model: LoadedModel) -> Table:
    sig = model.signature
    known = set(sig.names)
    if sig.columns and known & tensors.keys():
        if unknown := sorted(tensors.keys() - known):
            raise RequestError(f"unexpected inputs {unknown[:20]}")
        columns = {name: _column(name, block) for name, block in tensors.items()}
        return table_from_columns(columns, sig, arrays=model.takes_arrays)
    if len(tensors) == 1:
        (block,) = tensors.values()
        return table_by_position(block, sig, arrays=model.takes_arrays)
    wanted = f"one tensor for each of {list(sig.names)[:50]}, or " if sig.columns else ""
    raise RequestError(f"unexpected inputs {sorted(tensors)[:20]}: give {wanted}one tensor of all columns")


def _column(name: str, block: Any) -> Any:
    if block.ndim == 1 or (block.ndim == 2 and block.shape[1] == 1):
        return block.ravel().tolist() if block.dtype.kind == "O" else block.ravel()
    raise RequestError(f"input {name!r}: a column has shape [n] or [n, 1], not {list(block.shape)}")


def _wanted(outputs: object, model: LoadedModel) -> tuple[str, ...]:
    if outputs is None or outputs == []:
        return (model.method,)
    if not isinstance(outputs, list) or not all(isinstance(out, dict) for out in outputs):
        raise RequestError("outputs must be a list of objects with a name")
    names: Sequence[object] = [out.get("name") for out in outputs]
    for name in names:
        if name not in model.outputs:
            raise RequestError(f"unknown output {str(name)[:80]!r}: the model has {list(model.outputs)}")
    return tuple(dict.fromkeys(str(name) for name in names))


def _output(name: str, block: Any) -> dict[str, Any]:
    datatype = TENSOR_TYPES.get(block.dtype.name, "BYTES")
    data = plain_list(block.ravel())
    if datatype == "BYTES":
        data = [item if isinstance(item, str) else str(item) for item in data]
    return {"name": name, "shape": list(block.shape), "datatype": datatype, "data": data}
