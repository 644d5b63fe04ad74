"""Reads the `MLmodel` file of a model folder: which file, which method, which signature.

PyYAML comes with MLflow, which every environment that saved an `MLmodel` has; without
it the file is read as JSON, which is YAML too. Nothing named in the file is
imported: the loader module and the trusted types that it may list are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from insitu.serving.errors import StartError
from insitu.serving.signature import Signature, signature_from_mlmodel

_MAX_BYTES = 4 << 20
_PREDICT = frozenset({"predict", "predict_proba", "predict_log_proba"})


@dataclass(frozen=True)
class ModelDescription:
    file: Path
    method: str
    signature: Signature | None
    sklearn_version: str
    mlflow_version: str
    flavor: Literal["sklearn", "onnx"] = "sklearn"


def read_mlmodel(folder: Path) -> ModelDescription:
    """What the model folder says about itself.

    Raises:
        StartError: no MLmodel, another flavour, a pickle, or a path that leads out of the folder.
    """
    document = _document(folder / "MLmodel")
    flavors = _mapping(document.get("flavors"))
    sklearn, onnx = _mapping(flavors.get("sklearn")), _mapping(flavors.get("onnx"))
    if not sklearn and not onnx:
        raise StartError(
            f"The model in {folder} has neither a scikit-learn nor an ONNX flavour.",
            code="unsupported-flavour",
            why=f"its flavours are {sorted(map(str, flavors)) or 'none'}",
            hint="save it with mlflow.sklearn.save_model(..., serialization_format='skops'), or with mlflow.onnx",
        )
    method = _mapping(flavors.get("python_function")).get("predict_fn") or "predict"
    if method not in _PREDICT:
        raise StartError(f"The model asks for the method {method!r}.", code="unsupported-method")
    return ModelDescription(
        flavor="sklearn" if sklearn else "onnx",
        file=_skops_file(folder, sklearn) if sklearn else _onnx_file(folder, onnx),
        method=str(method),
        signature=signature_from_mlmodel(_mapping(document.get("signature"))),
        sklearn_version=str(sklearn.get("sklearn_version") or ""),
        mlflow_version=str(document.get("mlflow_version") or ""),
    )


def _skops_file(folder: Path, flavor: Mapping[str, Any]) -> Path:
    name, saved_as = flavor.get("pickled_model"), flavor.get("serialization_format")
    if not isinstance(name, str) or not name:
        raise StartError("The scikit-learn flavour names no model file.", code="bad-mlmodel")
    # The format is believed only where the name agrees; skops itself then checks that it is its zip.
    if saved_as != "skops" or not name.endswith(".skops"):
        raise StartError(
            f"The model file {name} is not skops, and a pickle is never loaded.",
            code="pickle-refused",
            why="loading a pickle runs whatever its author wrote",
            hint="save it with mlflow.sklearn.save_model(..., serialization_format='skops')",
        )
    return _inside(folder, name)


def _onnx_file(folder: Path, flavor: Mapping[str, Any]) -> Path:
    name = flavor.get("data")
    if not isinstance(name, str) or not name.endswith(".onnx"):
        raise StartError("The ONNX flavour names no model file.", code="bad-mlmodel")
    return _inside(folder, name)


def _inside(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise StartError(f"The model file {name} is not in the model's folder.", code="bad-mlmodel")
    return path


def _document(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise StartError(f"{path} is over {_MAX_BYTES} bytes.", code="bad-mlmodel")
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise StartError(f"{path} can't be read.", code="no-model", why=exc.strerror or "") from exc
    document = _parse(text, path)
    if not isinstance(document, dict):
        raise StartError(f"{path} is not a mapping.", code="bad-mlmodel")
    return cast("dict[str, Any]", document)


def _parse(text: str, path: Path) -> object:
    try:
        import yaml  # noqa: PLC0415 - an environment may lack it
    except ModuleNotFoundError:
        try:
            return json.loads(text)
        except ValueError as exc:
            raise StartError(
                f"{path} can't be read.",
                code="no-yaml",
                why="the environment has no PyYAML and the file is not JSON",
                hint="lock mlflow-skinny with the model, as training did",
            ) from exc
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise StartError(f"{path} is not YAML.", code="bad-mlmodel") from exc


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
