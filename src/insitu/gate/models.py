"""Rebuilds an `MLmodel` folder from an allow-list; what is not on it never leaves.

An MLmodel folder can carry code, an index address in its requirements, a loader
module to import, example rows and free text. So nothing of it is passed on: the
model file is rewritten (`canonical_skops.py`), and the files around it are
written anew:

| file | made from |
|---|---|
| `MLmodel` | the scikit-learn flavour with skops, and python_function through `mlflow.sklearn` |
| `model.skops` | the canonical form of the one model file that MLmodel names |
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

from insitu.gate.canonical_skops import CanonicalSkops, rewrite_skops, types_of
from insitu.gate.effort import Effort
from insitu.gate.read_numpy import NotReadableError
from insitu.gate.safe_types import SAFE_TYPES

MODEL_FILE = "model.skops"
_PREDICT = {"predict", "predict_proba", "predict_log_proba"}
_VERSION = re.compile(r"[0-9]{1,5}(\.[0-9]{1,5}){1,3}([a-z]{1,4}[0-9]{1,4})?")
_MAX_MLMODEL = 1 << 20
_TYPES = {"boolean", "integer", "long", "float", "double", "string", "binary", "datetime"}
_DTYPES = re.compile(r"(u?int(8|16|32|64)|float(16|32|64)|bool|str|object)")
_GENERIC = re.compile(r"(feature|column|input|output|x|f|col|prediction|probability|class)?[ _]?[0-9]{0,4}")
_MAX_COLUMNS = 5000


class NotRebuiltError(Exception):
    """The folder can't be rebuilt. `rule` says which kind of objection, the message says why, without data."""

    def __init__(self, rule: str, why: str, hint: str) -> None:
        super().__init__(why)
        self.rule = rule
        self.hint = hint


@dataclass(frozen=True)
class RebuiltModel:
    files: Mapping[str, bytes]
    types: frozenset[str]
    dropped: tuple[str, ...]  # classes of what was left behind, in our words


def rebuild_model(
    files: Mapping[str, bytes],
    *,
    columns: Collection[str],
    lock_packages: Sequence[tuple[str, str]],
    trusted_types: Collection[str],
    effort: Effort,
) -> RebuiltModel:
    """The folder's canonical copy.

    Args:
        files: relative path → content, as written by the job.
        columns: names that the site publishes for the job's datasets.
        lock_packages: name and version of each package of the job's lock.

    Raises:
        NotRebuiltError: it is not an MLmodel folder with a scikit-learn model in skops, or carries code.
        OutOfEffortError: it is larger than the judgement's bounds.
    """
    described = _describe(files)
    flavor = _flavor(described)
    stored = _model_file(files, flavor)
    model = _rewrite(stored, effort)
    signature, dropped = _signature(described.get("signature"), columns)
    left = {MODEL_FILE, "MLmodel", "requirements.txt", "conda.yaml", "python_env.yaml", str(flavor["pickled_model"])}
    extra = tuple(sorted({_class_of(name) for name in files if name not in left}))
    python = _version(_part(described, "flavors", "python_function").get("python_version"))
    pins = sorted(f"{name}=={version}" for name, version in lock_packages)
    rebuilt = {
        "MLmodel": _mlmodel(described, model, signature, python, dict(lock_packages), trusted_types),
        MODEL_FILE: model.data,
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
    return RebuiltModel(rebuilt, model.types, dropped + extra)


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


def _flavor(described: Mapping[str, Any]) -> Mapping[str, Any]:
    """The scikit-learn flavour, if the model is that, in skops, and brings no code."""
    how = 'save it with mlflow.sklearn.log_model(..., serialization_format="skops")'
    flavor = _part(described, "flavors", "sklearn")
    if not flavor:
        raise NotRebuiltError("kind", "it has no scikit-learn flavour", how)
    if flavor.get("code") or _part(described, "flavors", "python_function").get("code"):
        raise NotRebuiltError("model-code", "the model brings code of its own", "log it without code_paths")
    loader = _part(described, "flavors", "python_function").get("loader_module", "mlflow.sklearn")
    if loader != "mlflow.sklearn":
        raise NotRebuiltError("model-code", "the model names a loader of its own", how)
    if flavor.get("serialization_format") != "skops":
        raise NotRebuiltError("kind", "the model is not stored in skops", how)
    return flavor


def _model_file(files: Mapping[str, bytes], flavor: Mapping[str, Any]) -> bytes:
    name = flavor.get("pickled_model")
    if not isinstance(name, str) or name not in files:
        raise NotRebuiltError("kind", "MLmodel names a model file that is not there", "log the model again")
    return files[name]


def _rewrite(stored: bytes, effort: Effort) -> CanonicalSkops:
    try:
        return rewrite_skops(stored, effort)
    except NotReadableError as error:
        raise NotRebuiltError("kind", str(error), "save the estimator alone, in skops") from error


def _mlmodel(
    described: Mapping[str, Any],
    model: CanonicalSkops,
    signature: Mapping[str, str] | None,
    python: str,
    versions: Mapping[str, str],
    trusted_types: Collection[str],
) -> bytes:
    flavors = _part(described, "flavors")
    predict = _part(flavors, "python_function").get("predict_fn")
    written = versions.get("scikit-learn") or _version(_part(flavors, "sklearn").get("sklearn_version"))
    trusted = sorted(set(trusted_types) & model.types - SAFE_TYPES)
    document: dict[str, Any] = {
        "flavors": {
            "python_function": {
                "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                "loader_module": "mlflow.sklearn",
                "model_path": MODEL_FILE,
                "predict_fn": predict if predict in _PREDICT else "predict",
                **({"python_version": python} if python else {}),
            },
            "sklearn": {
                "code": None,
                "pickled_model": MODEL_FILE,
                "serialization_format": "skops",
                **({"sklearn_version": written} if written else {}),
                "skops_trusted_types": trusted or None,
            },
        },
        "mlflow_version": versions.get("mlflow")
        or versions.get("mlflow-skinny")
        or _version(described.get("mlflow_version")),
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
        inputs = _columns(_part({"s": stored}, "s").get("inputs"), columns)
        outputs = _columns(_part({"s": stored}, "s").get("outputs"), columns)
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


def _part(document: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    value: Any = document
    for key in path:
        value = cast("dict[str, Any]", value).get(key) if isinstance(value, dict) else None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _version(value: Any) -> str:
    return value if isinstance(value, str) and _VERSION.fullmatch(value) else ""


def _yaml(document: Mapping[str, Any]) -> bytes:
    return yaml.safe_dump(document, sort_keys=True, allow_unicode=True, width=200).encode()


def _class_of(name: str) -> str:
    if "input_example" in name:
        return "example input"
    return "code" if name.endswith(".py") else "other file"


__all__ = ["MODEL_FILE", "NotRebuiltError", "RebuiltModel", "rebuild_model", "types_of"]
