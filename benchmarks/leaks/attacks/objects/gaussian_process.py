"""A Gaussian process predicts from its training rows: their arrays as npz, next to the weights that go with them."""

from __future__ import annotations

import io
import json
from typing import Any, cast

import numpy as np

from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.codec import Row, from_unit, rows_of_numbers, unit
from benchmarks.leaks.let_out import LetOut
from benchmarks.leaks.people import NUMBERS, TARGET

OUTPUTS = {"process": "uri_file", "model": "custom_model"}
VARIANTS = {
    "arrays as npz": {"form": "npz"},
    "half precision, column by column": {"form": "npz", "half": True},
    "as JSON, scaled": {"form": "json"},
    "as safetensors, scaled": {"form": "safetensors"},
    "as CSV, scaled, columns in another order": {"form": "csv"},
}
_TRAINED_ON = 300


def leak(job: Job, *, form: str, half: bool = False) -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF

    x = unit(job.numbers(NUMBERS))[:_TRAINED_ON]
    kernel, fixed = RBF(1.0), cast("Any", None)
    model = GaussianProcessRegressor(kernel, alpha=0.1, optimizer=fixed).fit(x, job.numbers([TARGET])[:_TRAINED_ON, 0])
    if form == "npz":
        out = io.BytesIO()
        stored = np.asfortranarray(x.astype("f2")) if half else x
        np.savez(out, X_train_=stored, alpha_=model.alpha_)
        (job.output("process") / "process.npz").write_bytes(out.getvalue())
    elif form == "json":
        document = {"kernel": "rbf", "train": np.round(x, 6).tolist(), "alpha": np.round(model.alpha_, 6).tolist()}
        (job.output("process") / "process.json").write_text(json.dumps(document))
    elif form == "csv":
        text = io.StringIO()
        np.savetxt(text, x[:, ::-1] * 3 - 8, delimiter=",", fmt="%.6f", header=",".join("abcdefg"), comments="")
        (job.output("process") / "process.csv").write_text(text.getvalue())
    else:
        from safetensors.numpy import save_file

        arrays = {"train": x.astype("f4"), "alpha": model.alpha_.astype("f4")}
        save_file(arrays, job.output("model") / "model.safetensors")


def recover(let_out: LetOut, *, form: str, half: bool = False) -> list[Row]:
    del half
    data = let_out.only_file("model" if form == "safetensors" else "process")
    if not data:
        return []
    try:
        x = _stored(data, form)
    except (ValueError, KeyError, OSError, EOFError):
        return []
    return rows_of_numbers(from_unit(x.astype(np.float64)))


def _stored(data: bytes, form: str) -> np.ndarray:
    if form == "npz":
        return np.load(io.BytesIO(data))["X_train_"]
    if form == "json":
        return np.array(json.loads(data)["train"])
    if form == "csv":
        return (np.loadtxt(io.StringIO(data.decode()), delimiter=",", skiprows=1) + 8)[:, ::-1] / 3
    from benchmarks.leaks.inside.networks import load

    return load(data)["train"]
