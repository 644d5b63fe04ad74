"""Two forms of one model are asked the same rows, as the sandbox does it."""

import csv
import importlib
import json
import shutil
import sys
import tempfile
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from insitu.serving.smoke import NotMadeError, compare, differing, main, take_rows

pytestmark = pytest.mark.filterwarnings("ignore")  # as `main` does: libraries' warnings are about training


TABLE: Any = load_breast_cancer(as_frame=True)


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """What the sandbox has for itself, and takes along when it ends."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


@pytest.fixture
def data(tmp_path):
    table = TABLE.frame
    folder = tmp_path / "data"
    folder.mkdir()
    table.to_csv(folder / "wdbc.csv", index=False)
    return folder


def save(folder, estimator, features):
    mlflow_sklearn: Any = importlib.import_module("mlflow.sklearn")
    from mlflow.models import infer_signature

    estimator.fit(features, TABLE.target)
    mlflow_sklearn.save_model(
        estimator,
        folder,
        serialization_format="skops",
        signature=infer_signature(features, estimator.predict(features)),
    )
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    features = TABLE.data
    return save(tmp_path_factory.mktemp("m") / "model", make_pipeline(StandardScaler(), LogisticRegression()), features)


def test_a_copy_that_is_the_same_answers_the_same(model, data):
    assert compare(model, model, data, 100, "", []) == {"rows": 100, "differ": 0}


def test_another_model_answers_differently(model, data, tmp_path):
    features = TABLE.data
    other = save(tmp_path / "other", make_pipeline(StandardScaler(), LogisticRegression(C=1e-6)), -features)
    answer: Any = compare(model, other, data, 100, "", [])
    assert answer["rows"] == 100
    assert 20 < answer["differ"] <= 100


def test_a_copy_that_does_not_load_is_told_from_an_original_that_does_not(model, data, tmp_path):
    broken = shutil.copytree(model, tmp_path / "broken")
    (broken / "model.skops").write_bytes(b"PK\x05\x06")
    assert compare(model, broken, data, 10, "", []) == {"problem": "copy-fails"}
    with pytest.raises(NotMadeError, match="written-fails"):
        compare(broken, model, data, 10, "", [])


@pytest.fixture
def code(tmp_path, monkeypatch):
    folder = tmp_path / "code"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder
    for name in ("scoring", "wild"):
        sys.modules.pop(name, None)


def custom(folder, weights):
    folder.mkdir()
    (folder / "weights.json").write_text(json.dumps(weights))
    return folder


SCORING = """
import csv, json, pathlib
def predict(model, rows):
    weights = json.loads((pathlib.Path(model) / "weights.json").read_text())
    with open(rows, newline="") as stream:
        return [sum(w * float(row[n]) for n, w in weights.items()) for row in csv.DictReader(stream)]
"""


def test_a_function_of_the_job_predicts_where_no_library_can(code, data, tmp_path):
    (code / "scoring.py").write_text(SCORING)
    before = custom(tmp_path / "a", {"mean radius": 1.0, "mean area": 0.01})
    near = custom(tmp_path / "b", {"mean radius": 1.0001, "mean area": 0.01})
    far = custom(tmp_path / "c", {"mean radius": 1.0, "mean area": -0.01})
    assert compare(before, near, data, 50, "scoring:predict", []) == {"rows": 50, "differ": 0}
    answer: Any = compare(before, far, data, 50, "scoring:predict", [])
    assert answer["differ"] > 25


def test_a_model_that_nobody_can_ask_is_not_compared(data, tmp_path):
    folder = custom(tmp_path / "a", {})
    with pytest.raises(NotMadeError, match="no-predict"):
        compare(folder, folder, data, 5, "", [])


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("raise SystemExit(0)", "no-predict"),
        ("import not_installed_here", "no-runtime"),
        ("def predict(m, r): raise SystemExit(0)", "written-fails"),
        ("def predict(m, r): return [1]", "written-fails"),
        ("def other(): pass", "no-predict"),
    ],
)
def test_code_that_misbehaves_ends_in_a_word(code, data, tmp_path, body, word):
    (code / "wild.py").write_text(body)
    folder = custom(tmp_path / "a", {})
    out = tmp_path / "answer.json"
    arguments = ["--written", folder, "--copy", folder, "--data", data, "--rows", "5", "--predict", "wild:predict"]
    assert main([str(part) for part in [*arguments, "--out", out]]) == 0
    assert json.loads(out.read_text()) == {"problem": word}


def test_rows_are_spread_over_the_file(tmp_path):
    with (tmp_path / "numbers.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["n", "name"], *([number, f"row {number}"] for number in range(1000))])
    rows = take_rows(tmp_path, 5)
    assert rows.columns["n"].tolist() == [0, 249, 499, 749, 999]
    assert rows.block.tolist() == [[0], [249], [499], [749], [999]]
    assert rows.file.read_text().splitlines()[1] == "0,row 0"


def test_a_stack_of_arrays_is_asked_one_by_one(tmp_path):
    np.save(tmp_path / "images.npy", np.arange(60, dtype=np.uint8).reshape(5, 3, 4))
    rows = take_rows(tmp_path, 3)
    assert rows.block.shape == (3, 3, 4)
    assert np.load(rows.file).tolist() == rows.block.tolist()


def test_data_without_rows_is_said(tmp_path):
    (tmp_path / "notes.bin").write_bytes(b"\x00\x01")
    with pytest.raises(NotMadeError, match="no-rows"):
        take_rows(tmp_path, 5)


@pytest.mark.parametrize(
    ("before", "after", "count"),
    [
        ([0, 1, 2], [0, 1, 2], 0),
        (["a", "b"], ["a", "c"], 1),
        ([0.0, 100.0], [0.5, 100.9], 0),  # within a hundredth of the spread
        ([0.0, 100.0], [2.0, 100.0], 1),
        ([float("nan"), 1.0], [float("nan"), 1.0], 0),
        ([float("nan"), 1.0], [0.0, 1.0], 1),
        ([[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]], 1),
        ([1.0, 2.0], [1.0, 2.0, 3.0], 2),
        ([5.0, 5.0], [5.0, 5.1], 1),  # no spread: equal or not
    ],
)
def test_what_counts_as_a_difference(before, after, count):
    assert differing(np.asarray(before), np.asarray(after)) == count
