"""A scikit-learn model, loaded with skops and called with arrays where that is the same.

skops rebuilds a model from a zip of JSON and arrays and constructs only types that
it knows or was told to trust (skops, *Secure persistence*). The list of types comes
from the caller; the `skops_trusted_types` of the model's own MLmodel are never read.

A table of numbers goes in as one array: a pandas frame of one row costs three times
as much. Both ways are tried at start on probe rows, and where they don't agree, or a
step selects its columns by name, frames are used.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from insitu.serving.errors import RequestError, StartError
from insitu.serving.mlmodel import ModelDescription
from insitu.serving.signature import Column, Signature, Tensor
from insitu.serving.tables import Table

#: Output names that a caller of the Open Inference Protocol may ask for, where the model has them.
METHODS = ("predict", "predict_proba", "predict_log_proba")


@dataclass(frozen=True)
class LoadedModel:
    estimator: Any
    method: str
    signature: Signature
    takes_arrays: bool
    """A table of numbers may be given as one array, without names."""
    rows_are_independent: bool
    """Rows of several requests may be predicted in one call."""

    @property
    def outputs(self) -> tuple[str, ...]:
        others = (name for name in METHODS if name != self.method and hasattr(self.estimator, name))
        return (self.method, *others)

    def predict(self, table: Table, method: str) -> Any:
        """The model's answer, one item a row.

        Raises:
            RequestError: the model doesn't take this input.
        """
        try:
            answer = np.asarray(getattr(self.estimator, method)(table.values))
        except (ValueError, TypeError) as exc:
            raise RequestError(f"The model refused the input: {_first_line(exc)}") from exc
        if answer.ndim == 0 or len(answer) != table.rows:
            raise RequestError("The model's answer has not one item a row.", status=500, code="INTERNAL_ERROR")
        return answer


def load_model(description: ModelDescription, trusted_types: Collection[str]) -> LoadedModel:
    """Load the model that `description` names.

    Raises:
        StartError: it needs a type that nobody trusted, or an environment that isn't this one.
    """
    estimator = _load(description, trusted_types)
    signature = description.signature or _signature_of(estimator)
    if not signature.is_numeric:
        _need_pandas()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        takes_arrays = _takes_arrays(estimator, description.method, signature)
    if signature.columns and not takes_arrays:
        _need_pandas()
    return LoadedModel(
        estimator=estimator,
        method=description.method,
        signature=signature,
        takes_arrays=takes_arrays,
        # scikit-learn's own estimators predict row by row; of a stranger's class nobody knows.
        rows_are_independent=not trusted_types,
    )


def _load(description: ModelDescription, trusted_types: Collection[str]) -> Any:
    try:
        # Not at the top: what is missing is told as a refusal, and listening doesn't wait for it.
        import sklearn  # noqa: PLC0415
        import skops.io  # noqa: PLC0415
        from skops.io.exceptions import UntrustedTypesFoundException  # noqa: PLC0415
    except ModuleNotFoundError as exc:
        raise StartError(
            f"The environment has no {exc.name}.",
            code="environment-differs",
            hint="lock scikit-learn and skops with the model, as training did",
        ) from exc
    if description.sklearn_version and description.sklearn_version != sklearn.__version__:
        raise StartError(
            f"The model was saved by scikit-learn {description.sklearn_version}; {sklearn.__version__} is here.",
            code="environment-differs",
            hint="serve it in the environment that its lock names",
        )
    try:
        wanted = set(skops.io.get_untrusted_types(file=description.file))
        if untrusted := sorted(wanted - set(trusted_types)):
            raise _untrusted(untrusted)
        estimator = skops.io.load(description.file, trusted=sorted(wanted))
    except UntrustedTypesFoundException as exc:
        raise _untrusted([]) from exc
    except StartError:
        raise
    except (zipfile.BadZipFile, OSError, KeyError, ValueError, TypeError, ImportError, AttributeError) as exc:
        raise StartError(
            f"{description.file.name} can't be loaded.",
            code="bad-model",
            why=f"{type(exc).__name__}: {_first_line(exc)}",
        ) from exc
    if not hasattr(estimator, description.method):
        raise StartError(f"{type(estimator).__name__} has no {description.method}.", code="bad-model")
    return estimator


def _untrusted(types: Sequence[str]) -> StartError:
    return StartError(
        "The model needs types that nobody here trusts.",
        code="untrusted-types",
        why=", ".join(types),
        hint="the site's policy lists trusted skops types; they are given with --trusted-type",
    )


def _signature_of(estimator: Any) -> Signature:
    """What an estimator says of itself, for a model that was saved without a signature."""
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None:
        return Signature(columns=tuple(Column(str(name), "any") for name in names))
    width = getattr(estimator, "n_features_in_", -1)
    return Signature(tensor=Tensor("float64", (-1, int(width))))


def _takes_arrays(estimator: Any, method: str, signature: Signature) -> bool:

    if not signature.columns:
        return True
    if not signature.is_numeric or not all(column.required for column in signature.columns):
        return False
    ramp = np.linspace(0.0, 1.0, len(signature.columns))
    rows = np.stack([np.zeros_like(ramp), np.ones_like(ramp), ramp])
    try:
        bare = np.asarray(getattr(estimator, method)(rows))
    except Exception:  # noqa: BLE001 - a model may raise anything; then it gets its frames
        return False
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        return True
    if tuple(map(str, names)) != signature.names:
        return False
    if find_spec("pandas") is None:
        return True
    try:
        import pandas as pd  # noqa: PLC0415 - only where it is there

        framed = np.asarray(getattr(estimator, method)(pd.DataFrame(rows, columns=list(signature.names))))
    except Exception:  # noqa: BLE001
        return False
    return bool(np.array_equal(bare, framed))


def _need_pandas() -> None:
    if find_spec("pandas") is None:
        raise StartError(
            "The model takes columns by name or kind, and the environment has no pandas.",
            code="environment-differs",
            hint="lock pandas with the model",
        )


def _first_line(exc: BaseException) -> str:
    return (str(exc).splitlines() or [""])[0][:300]
