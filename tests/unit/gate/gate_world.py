"""What the gate's tests share: a real dataset and its index, real models, and a judge's request about them."""

from __future__ import annotations

import io
import pickle
import warnings
from functools import cache
from pathlib import Path
from typing import Any, cast

import joblib
import numpy as np
import skops.io
import yaml
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from insitu.domain.outputs import Decision, OutputContract, OutputType, ReleaseContract
from insitu.gate.contents import Contents
from insitu.gate.effort import Effort
from insitu.gate.judge import judge
from insitu.gate.judgement import Candidate, JudgeLimits, JudgeRequest
from insitu.gate.known.data import KnownData, build_index
from insitu.gate.known.table import KnownTable
from insitu.gate.policy.loading import DEFAULT_POLICY_TEXT
from insitu.gate.readers.any import read_any
from insitu.gate.rows.scan import RowScan, RowsFound

KEY = b"site key of the tests"
PACKAGES = (("mlflow", "3.17.2"), ("scikit-learn", "1.9.1"), ("skops", "0.16.0"))


@cache
def wdbc() -> Any:
    data: Any = load_breast_cancer(as_frame=True)
    return data.frame


@cache
def training() -> tuple[Any, Any]:
    """426 of the 569 rows, as a script would choose them."""
    table = wdbc()
    split: Any = train_test_split(table.drop(columns="target"), table["target"], random_state=0)
    return split[0], split[2]


def index_of(table: Any, folder: Path) -> Path:
    folder.mkdir(parents=True)
    source = folder.with_suffix(".csv")
    table.to_csv(source, index=False)
    build_index([source], "csv", folder, KEY)
    return folder


def known_of(table: Any, folder: Path) -> KnownData:
    return KnownData.open(index_of(table, folder))


def scan_bytes(data: bytes, table: np.ndarray, **options: Any) -> RowsFound:
    """The scan over everything that the readers find in `data`."""
    effort = Effort()
    contents = Contents(effort)
    read_any(data, "file", contents)
    return RowScan(KnownTable(np.asarray(table, dtype=np.float64)), **options).find(contents.numbers, effort)


def npz(*arrays: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.savez(out, *arrays)
    return out.getvalue()


def joblib_bytes(model: Any, compress: Any = 0) -> bytes:
    out = io.BytesIO()
    joblib.dump(model, out, compress=compress)
    return out.getvalue()


def skops_bytes(model: Any) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cast("bytes", skops.io.dumps(model))


def mlmodel(**changes: Any) -> dict[str, Any]:
    """An MLmodel as MLflow 3.17 writes it for scikit-learn with skops."""
    document: dict[str, Any] = {
        "flavors": {
            "python_function": {
                "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                "loader_module": "mlflow.sklearn",
                "model_path": "model.skops",
                "predict_fn": "predict",
                "python_version": "3.11.7",
            },
            "sklearn": {
                "code": None,
                "pickled_model": "model.skops",
                "serialization_format": "skops",
                "sklearn_version": "1.9.1",
                "skops_trusted_types": None,
            },
        },
        "mlflow_version": "3.17.2",
        "model_uuid": "b6b41b0cc7ff4fa9b210a1c3415500e9",
        "utc_time_created": "2026-11-23 11:40:22.693666",
    }
    document.update(changes)
    return document


def model_folder(folder: Path, model: bytes, *, document: dict[str, Any] | None = None, **files: bytes) -> Path:
    """A model folder with `model` in it, skops unless `document` says otherwise."""
    folder.mkdir(parents=True)
    described = document or mlmodel()
    (folder / described["flavors"]["sklearn"]["pickled_model"]).write_bytes(model)
    (folder / "MLmodel").write_text(yaml.safe_dump(described))
    (folder / "requirements.txt").write_text("--index-url https://example.org/simple\nevil\n")
    for name, data in files.items():
        (folder / name.replace("__", ".")).write_bytes(data)
    return folder


def pickled_folder(folder: Path, model: Any) -> Path:
    document = mlmodel()
    document["flavors"]["sklearn"].update(pickled_model="model.pkl", serialization_format="cloudpickle")
    return model_folder(folder, pickle.dumps(model), document=document)


def judge_one(
    path: Path,
    index: Path | None,
    out_dir: Path,
    *,
    type: OutputType = OutputType.MLFLOW_MODEL,
    policy: str = DEFAULT_POLICY_TEXT,
    contract: ReleaseContract | None = None,
    limits: JudgeLimits | None = None,
    in_envelope: bool = True,  # the default policy holds every model of code that no run envelope covers
) -> Decision:
    out_dir.mkdir(parents=True, exist_ok=True)
    request = JudgeRequest(
        policy=policy,
        contract=contract or ReleaseContract(outputs=(OutputContract("model", type),)),
        candidates=(Candidate("model", type, path),),
        index_dirs=(index,) if index else (),
        lock_packages=PACKAGES,
        out_dir=out_dir,
        limits=limits or JudgeLimits(),
        in_envelope=in_envelope,
    )
    return judge(request).decisions[0]
