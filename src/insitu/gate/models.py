"""Rebuilds an `MLmodel` folder from an allow-list; what is not on it never leaves.

An MLmodel folder can carry code, an index address in its requirements, a loader
module to import, example rows and free text. So nothing of it is passed on: the
model file is rewritten (`canonical/skops.py`), and the files around it are
written anew:

| file | made from |
|---|---|
| `MLmodel` | one flavour of the list in `model_flavors.py`, and python_function through its loader |
| `model.skops` or `model.onnx` | the canonical form of the one model file that MLmodel names |
| `requirements.txt`, `conda.yaml`, `python_env.yaml` | the packages of the job's signed lock |

The signature is kept if every name in it is a column that the site publishes or
a generic one; else it is left out. Example inputs are always left out: they are
rows. Code paths and custom pyfunc never pass.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import yaml

from insitu.gate.canonical.form import Canonical, Leaves
from insitu.gate.canonical.precision import Rounding
from insitu.gate.ceiling import bytes_of_text
from insitu.gate.effort import Effort
from insitu.gate.model_flavors import (
    Flavor,
    NotRebuiltError,
    as_version,
    flavor_document,
    flavor_of,
    function_document,
    part,
    rewrite_model_file,
)

MODEL_FILES = ("model.skops", "model.onnx")
_MAX_MLMODEL = 1 << 20
_TYPES = {"boolean", "integer", "long", "float", "double", "string", "binary", "datetime"}
_DTYPES = re.compile(r"(u?int(8|16|32|64)|float(16|32|64)|bool|str|object)")
_GENERIC = re.compile(r"(feature|column|input|output|x|f|col|prediction|probability|class)?[ _]?[0-9]{0,4}")
_MAX_COLUMNS = 5000


@dataclass(frozen=True)
class RebuiltModel:
    files: Mapping[str, bytes]
    format: str
    types: frozenset[str]
    dropped: tuple[str, ...]  # classes of what was left behind, in our words
    carries_bits: int  # at most; see `ceiling.py`
    leaves: Leaves | None = None
    source: str = ""  # the model file as the job named it


def rebuild_model(
    files: Mapping[str, bytes],
    *,
    columns: Collection[str],
    lock_packages: Sequence[tuple[str, str]],
    trusted_types: Collection[str],
    effort: Effort,
    rounding: Rounding | None = None,
) -> RebuiltModel:
    """The folder's canonical copy.

    Args:
        files: relative path → content, as written by the job.
        columns: names that the site publishes for the job's datasets.
        lock_packages: name and version of each package of the job's lock.
        rounding: of the policy; None: numbers stay as they are.

    Raises:
        NotRebuiltError: it is not an MLmodel folder with a flavour of the list, or carries code.
        OutOfEffortError: it is larger than the judgement's bounds.
    """
    described = _describe(files)
    flavor = flavor_of(described)
    if flavor.stored not in files:
        raise NotRebuiltError("kind", "MLmodel names a model file that is not there", "log the model again")
    model = rewrite_model_file(flavor, files[flavor.stored], rounding or Rounding(None), columns, effort)
    signature, dropped = _signature(described.get("signature"), columns)
    left = {flavor.file, "MLmodel", "requirements.txt", "conda.yaml", "python_env.yaml", flavor.stored}
    extra = tuple(sorted({_class_of(name) for name in files if name not in left}))
    python = as_version(part(described, "flavors", "python_function").get("python_version"))
    versions = dict(lock_packages)
    mlmodel = _mlmodel(flavor, described, model, signature, python, versions, trusted_types)
    expected = _mlmodel(flavor, {}, model, None, "3.11.7", versions, trusted_types)
    pins = sorted(f"{name}=={version}" for name, version in lock_packages)
    rebuilt = {
        "MLmodel": mlmodel,
        flavor.file: model.data,
        "requirements.txt": "".join(f"{pin}\n" for pin in pins).encode(),
        "conda.yaml": _yaml(
            {
                "channels": ["conda-forge"],
                "dependencies": [f"python={python}" if python else "python", "pip", {"pip": pins}],
                "name": "mlflow-env",
            }
        ),
        "python_env.yaml": _yaml(
            {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
        ),
    }
    names = json.dumps([{"type": "double", "name": name, "required": True} for name in columns]).encode()
    return RebuiltModel(
        rebuilt,
        model.format,
        model.types,
        dropped + extra + model.dropped,
        model.carries_bits + 8 * bytes_of_text(mlmodel, names + expected),
        model.leaves,
        flavor.stored,
    )


def _describe(files: Mapping[str, bytes]) -> Mapping[str, Any]:
    text = files.get("MLmodel")
    if text is None:
        raise NotRebuiltError("kind", "there is no MLmodel file", "log it with mlflow.sklearn.log_model")
    try:
        if len(text) > _MAX_MLMODEL or b"&" in text or b"*" in text:  # no anchors: nested ones are bombs
            raise ValueError("not as MLflow writes it")
        described = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise NotRebuiltError("kind", "MLmodel is not understood", "log it with mlflow.sklearn.log_model") from error
    if not isinstance(described, dict):
        raise NotRebuiltError("kind", "MLmodel is not understood", "log it with mlflow.sklearn.log_model")
    return cast("dict[str, Any]", described)


def _mlmodel(
    flavor: Flavor,
    described: Mapping[str, Any],
    model: Canonical,
    signature: Mapping[str, str] | None,
    python: str,
    versions: Mapping[str, str],
    trusted_types: Collection[str],
) -> bytes:
    document: dict[str, Any] = {
        "flavors": {
            "python_function": function_document(flavor, described, python),
            flavor.name: flavor_document(flavor, described, model.types, versions, trusted_types),
        },
        "mlflow_version": versions.get("mlflow")
        or versions.get("mlflow-skinny")
        or as_version(described.get("mlflow_version")),
    }
    if signature is not None:
        document["signature"] = dict(signature)
    return _yaml({key: value for key, value in document.items() if value})


# ── Signature ───────────────────────────────────────────────────────────────


def _signature(stored: Any, columns: Collection[str]) -> tuple[Mapping[str, str] | None, tuple[str, ...]]:
    """The signature as it may leave, and what was left out of the folder with it."""
    if not stored:
        return None, ()
    try:
        inputs = _columns(part({"s": stored}, "s").get("inputs"), columns)
        outputs = _columns(part({"s": stored}, "s").get("outputs"), columns)
    except (ValueError, TypeError, RecursionError):
        return None, ("signature",)
    kept = {"inputs": inputs, "outputs": outputs}
    return {key: json.dumps(value) for key, value in kept.items() if value} or None, ()


def _columns(text: Any, allowed: Collection[str]) -> list[dict[str, Any]]:
    """MLflow's list of columns or tensors, with nothing in it but known types and names that may be known."""
    if text is None:
        return []
    items = json.loads(text)
    if not isinstance(items, list) or len(cast("list[Any]", items)) > _MAX_COLUMNS:
        raise ValueError("not a list of columns")
    return [_column(cast("dict[str, Any]", item), allowed) for item in cast("list[Any]", items)]


def _column(item: dict[str, Any], allowed: Collection[str]) -> dict[str, Any]:
    column: dict[str, Any] = {}
    if item["type"] == "tensor":
        spec = item["tensor-spec"]
        shape = spec["shape"]
        if not _DTYPES.fullmatch(spec["dtype"]) or not all(type(size) is int and -1 <= size < 2**31 for size in shape):
            raise ValueError("not a tensor")
        column = {"type": "tensor", "tensor-spec": {"dtype": spec["dtype"], "shape": list(shape)[:8]}}
    elif item["type"] in _TYPES:
        column = {"type": item["type"]}
    else:
        raise ValueError("not a column")
    name = item.get("name")
    if name is not None:
        if name not in allowed and not _GENERIC.fullmatch(name):
            raise ValueError("a name that the site does not publish")
        column["name"] = name
    if "required" in item:
        column["required"] = bool(item["required"])
    return column


# ── Small parts ─────────────────────────────────────────────────────────────


def _yaml(document: Mapping[str, Any]) -> bytes:
    return yaml.safe_dump(document, sort_keys=True, allow_unicode=True, width=200).encode()


def _class_of(name: str) -> str:
    if "input_example" in name:
        return "example input"
    return "code" if name.endswith(".py") else "other file"


__all__ = ["MODEL_FILES", "NotRebuiltError", "RebuiltModel", "rebuild_model"]
