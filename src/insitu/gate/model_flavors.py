"""The flavours that a rebuilt MLmodel folder may have, and what each of them writes.

| flavour | file | loader of python_function |
|---|---|---|
| `sklearn`, in skops | `model.skops` | `mlflow.sklearn` |
| `onnx` | `model.onnx` | `mlflow.onnx` |

Both loaders build from data alone: skops from the types that the site trusts,
onnxruntime from a graph of the operators on our list.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from insitu.gate.canonical.form import Canonical, ObjectionError
from insitu.gate.canonical.onnx import rewrite_onnx
from insitu.gate.canonical.precision import Rounding
from insitu.gate.canonical.skops import rewrite_skops
from insitu.gate.contents import NotReadableError
from insitu.gate.effort import Effort
from insitu.gate.safe_types import SAFE_TYPES

VERSION = re.compile(r"[0-9]{1,5}(\.[0-9]{1,5}){1,3}([a-z]{1,4}[0-9]{1,4})?")
_HOW = 'save it with mlflow.sklearn.log_model(..., serialization_format="skops") or mlflow.onnx.log_model'
_PREDICT = {"predict", "predict_proba", "predict_log_proba"}


class NotRebuiltError(ObjectionError):
    """The folder can't be rebuilt. `rule` says which kind of objection, the message says why, without data."""


@dataclass(frozen=True)
class Flavor:
    name: Literal["sklearn", "onnx"]
    stored: str  # the file as the job named it
    file: str  # as it is named in the copy
    format: Literal["skops", "onnx"]

    @property
    def loader(self) -> str:
        return f"mlflow.{self.name}"


def flavor_of(described: Mapping[str, Any]) -> Flavor:
    """The one flavour that the copy gets, if the folder brings no code.

    Raises:
        NotRebuiltError: it has none of the list, code of its own, or another loader.
    """
    function = part(described, "flavors", "python_function")
    sklearn, onnx = part(described, "flavors", "sklearn"), part(described, "flavors", "onnx")
    flavor = sklearn or onnx
    if not flavor:
        raise NotRebuiltError("kind", "it has neither a scikit-learn nor an ONNX flavour", _HOW)
    if flavor.get("code") or function.get("code"):
        raise NotRebuiltError("model-code", "the model brings code of its own", "log it without code_paths")
    expected = "mlflow.sklearn" if sklearn else "mlflow.onnx"
    if function.get("loader_module", expected) != expected:
        raise NotRebuiltError("model-code", "the model names a loader of its own", _HOW)
    if sklearn and sklearn.get("serialization_format") != "skops":
        raise NotRebuiltError("kind", "the model is not stored in skops", _HOW)
    stored = sklearn.get("pickled_model") if sklearn else onnx.get("data")
    if not isinstance(stored, str):
        raise NotRebuiltError("kind", "MLmodel names no model file", "log the model again")
    return (
        Flavor("sklearn", stored, "model.skops", "skops") if sklearn else Flavor("onnx", stored, "model.onnx", "onnx")
    )


def rewrite_model_file(
    flavor: Flavor, data: bytes, rounding: Rounding, columns: Collection[str], effort: Effort
) -> Canonical:
    """The canonical form of the flavour's model file.

    Raises:
        NotRebuiltError: it can't be rewritten.
    """
    try:
        if flavor.name == "onnx":
            return rewrite_onnx(data, rounding, effort)
        skops = rewrite_skops(data, effort, rounding, columns)
        return Canonical(skops.data, "skops", skops.carries_bits, skops.types)
    except ObjectionError as error:
        raise NotRebuiltError(error.rule, str(error), error.hint) from error
    except NotReadableError as error:
        hint = "save the estimator alone, in skops" if flavor.name == "sklearn" else "use standard operators alone"
        raise NotRebuiltError("kind", str(error), hint) from error


def flavor_document(
    flavor: Flavor,
    described: Mapping[str, Any],
    types: Collection[str],
    versions: Mapping[str, str],
    trusted: Collection[str],
) -> dict[str, Any]:
    """The flavour's own part of the MLmodel file."""
    if flavor.name == "onnx":
        version = versions.get("onnx", "")
        return {
            "code": None,
            "data": flavor.file,
            **({"onnx_version": version} if version else {}),
            "providers": ["CPUExecutionProvider"],
        }
    written = versions.get("scikit-learn") or as_version(part(described, "flavors", "sklearn").get("sklearn_version"))
    return {
        "code": None,
        "pickled_model": flavor.file,
        "serialization_format": "skops",
        **({"sklearn_version": written} if written else {}),
        "skops_trusted_types": sorted(set(trusted) & set(types) - SAFE_TYPES) or None,
    }


def function_document(flavor: Flavor, described: Mapping[str, Any], python: str) -> dict[str, Any]:
    """The part by which anything that knows python_function loads it."""
    document: dict[str, Any] = {
        "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
        "loader_module": flavor.loader,
        **({"python_version": python} if python else {}),
    }
    if flavor.name == "onnx":
        return {**document, "data": flavor.file}
    predict = part(described, "flavors", "python_function").get("predict_fn")
    return {**document, "model_path": flavor.file, "predict_fn": predict if predict in _PREDICT else "predict"}


def part(document: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """What stands under a path of keys; nothing where it is no mapping."""
    value: Any = document
    for key in path:
        value = cast("dict[str, Any]", value).get(key) if isinstance(value, dict) else None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def as_version(value: Any) -> str:
    """A version number; empty if it isn't one."""
    return value if isinstance(value, str) and VERSION.fullmatch(value) else ""
