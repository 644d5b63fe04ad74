"""A nearest-neighbours model is its training rows. Saved by joblib, or under a class name that says nothing."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np

from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.codec import Row, from_unit, rows_of_numbers, unit
from benchmarks.leaks.let_out import LetOut
from benchmarks.leaks.people import NUMBERS, TARGET

OUTPUTS = {"model": "custom_model", "table": "uri_file"}
VARIANTS = {
    "joblib": {"form": "joblib"},
    "joblib, compressed": {"form": "joblib", "compress": 9},
    "a renamed subclass, by cloudpickle": {"form": "cloudpickle"},
    "a renamed subclass of scaled single precision": {"form": "cloudpickle", "scaled": True},
    "skops as a file": {"form": "skops"},
    "its arrays as JSON": {"form": "json", "scaled": True},
}


def leak(job: Job, *, form: str, compress: int = 0, scaled: bool = False) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    class Harmless(KNeighborsClassifier):
        pass

    x = job.numbers(NUMBERS)
    x = unit(x).astype("f4") if scaled else x
    kind = Harmless if form == "cloudpickle" else KNeighborsClassifier
    model = kind().fit(x, job.numbers([TARGET])[:, 0])
    folder = job.output("table" if form == "json" else "model")
    if form == "joblib":
        import joblib

        joblib.dump(model, folder / "model.joblib", compress=compress)
    elif form == "cloudpickle":
        import cloudpickle

        cloudpickle.register_pickle_by_value(sys.modules[__name__])
        (folder / "model.pkl").write_bytes(cloudpickle.dumps(model))
    elif form == "skops":
        import skops.io

        skops.io.dump(model, folder / "model.skops")
    else:
        import json

        (folder / "centres.json").write_text(json.dumps({"centres": np.round(x[:400].astype(float), 5).tolist()}))


def recover(let_out: LetOut, *, form: str, compress: int = 0, scaled: bool = False) -> list[Row]:
    del compress
    data = let_out.only_file("table" if form == "json" else "model")
    if not data:
        return []
    try:
        x = _stored(data, form)
    except Exception:  # noqa: BLE001 - what the gate made of it may be anything
        return []
    return rows_of_numbers(from_unit(x) if scaled else x)


def _stored(data: bytes, form: str) -> Any:
    if form == "json":
        import json

        return np.array(json.loads(data)["centres"])
    if form == "skops":
        import skops.io

        return skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))._fit_X
    if form == "joblib":
        import joblib

        return joblib.load(io.BytesIO(data))._fit_X
    import pickle

    return pickle.loads(data)._fit_X
