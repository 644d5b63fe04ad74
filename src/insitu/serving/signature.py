"""What a model takes: MLflow's signature, read strictly, as values.

Two shapes exist (MLflow, *Model Signatures And Input Examples*): columns with a name
and a type, or one unnamed tensor with dtype and shape. Types that a scikit-learn
model can't take as a column (array, object, map, binary) are refused at start,
where a person sees it, instead of at the first request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from insitu.serving.errors import StartError

#: MLflow's column type → (numpy dtype, Open Inference datatype). `any` is ours: no signature says.
COLUMN_TYPES: Mapping[str, tuple[str, str]] = {
    "boolean": ("bool", "BOOL"),
    "integer": ("int32", "INT32"),
    "long": ("int64", "INT64"),
    "float": ("float32", "FP32"),
    "double": ("float64", "FP64"),
    "string": ("object", "BYTES"),
    "datetime": ("datetime64[ns]", "BYTES"),
    "any": ("float64", "FP64"),
}
NUMERIC_TYPES = frozenset({"boolean", "integer", "long", "float", "double", "any"})

#: numpy dtype → Open Inference datatype, for tensors and for what a model answers.
TENSOR_TYPES: Mapping[str, str] = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}


@dataclass(frozen=True)
class Column:
    name: str
    type: str
    required: bool = True

    @property
    def dtype(self) -> str:
        return COLUMN_TYPES[self.type][0]


@dataclass(frozen=True)
class Tensor:
    dtype: str
    shape: tuple[int, ...]
    name: str = ""


@dataclass(frozen=True)
class Signature:
    """Either `columns` or `tensor` is set."""

    columns: tuple[Column, ...] = ()
    tensor: Tensor | None = None
    output: Tensor | None = None
    has_params: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def is_numeric(self) -> bool:
        return all(column.type in NUMERIC_TYPES for column in self.columns)

    @property
    def width(self) -> int:
        """How many numbers make a row; 0 where the signature leaves it open."""
        if self.columns:
            return len(self.columns)
        return self.tensor.shape[-1] if self.tensor and len(self.tensor.shape) > 1 else 0


def signature_from_mlmodel(document: Mapping[str, Any] | None) -> Signature | None:
    """The `signature` part of an MLmodel file, whose values are JSON texts.

    Raises:
        StartError: it has a form or a type that can't be served.
    """
    if not document or not document.get("inputs"):
        return None
    inputs = _specs(document["inputs"], "inputs")
    has_params = bool(document.get("params")) and document["params"] != "null"
    output = _output(document.get("outputs"))
    if inputs[0].get("type") == "tensor":
        if len(inputs) != 1:
            raise _unsupported(f"it takes {len(inputs)} tensors, a scikit-learn model takes one")
        return Signature(tensor=_tensor(inputs[0]), output=output, has_params=has_params)
    columns = tuple(_column(index, spec) for index, spec in enumerate(inputs))
    if len({column.name for column in columns}) != len(columns):
        raise _unsupported("two columns have one name")
    if not any("name" in spec for spec in inputs):
        dtypes = {column.dtype for column in columns}
        dtype = dtypes.pop() if len(dtypes) == 1 else "float64"
        return Signature(tensor=Tensor(dtype, (-1, len(columns))), output=output, has_params=has_params)
    return Signature(columns=columns, output=output, has_params=has_params)


def _specs(text: object, part: str) -> list[dict[str, Any]]:
    try:
        specs = json.loads(text) if isinstance(text, str) else text
    except ValueError as exc:
        raise _unsupported(f"its {part} are not JSON") from exc
    if not isinstance(specs, list) or not specs or not all(isinstance(spec, dict) for spec in specs):
        raise _unsupported(f"its {part} are not a list of columns or tensors")
    return specs


def _column(index: int, spec: Mapping[str, Any]) -> Column:
    kind = spec.get("type")
    if not isinstance(kind, str) or kind not in COLUMN_TYPES or kind == "any":
        raise _unsupported(f"column {spec.get('name', index)!r} has type {kind!r}")
    name = spec.get("name", str(index))
    if not isinstance(name, str):
        raise _unsupported(f"column {index} has a name that is not text")
    return Column(name, kind, required=spec.get("required", not spec.get("optional", False)) is not False)


def _tensor(spec: Mapping[str, Any]) -> Tensor:
    inner = spec.get("tensor-spec")
    if not isinstance(inner, dict):
        raise _unsupported("a tensor has no tensor-spec")
    dtype, shape = inner.get("dtype"), inner.get("shape")
    if dtype not in TENSOR_TYPES and dtype not in ("object", "str"):
        raise _unsupported(f"a tensor has dtype {dtype!r}")
    if not isinstance(shape, list) or not all(isinstance(size, int) for size in shape):
        raise _unsupported("a tensor has no shape")
    return Tensor(str(dtype), tuple(shape), str(spec.get("name") or ""))


def _output(text: object) -> Tensor | None:
    """The first output, for the model's metadata only; what can't be read there is left out."""
    if not text or text == "null":
        return None
    spec = _specs(text, "outputs")[0]
    if spec.get("type") == "tensor":
        return _tensor(spec)
    kind = spec.get("type")
    if isinstance(kind, str) and kind in COLUMN_TYPES:
        return Tensor(COLUMN_TYPES[kind][0], (-1,), str(spec.get("name") or ""))
    return None


def _unsupported(why: str) -> StartError:
    return StartError(
        "The model's signature can't be served.",
        code="unsupported-signature",
        why=why,
        hint="log the model with mlflow.models.infer_signature(table, predictions) on plain columns",
    )
