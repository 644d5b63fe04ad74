"""A script saves a model that holds its training rows. The rows must be found, and the model must not leave.

Where a rule alone stops an attack, the test takes that rule away and shows that the rows would leave; where a second
rule stands behind it, that the second one decides. Two have no such half: example rows are never copied, so there is
no rule to take away, and the pickle of an honest model has nothing in it to leak.
"""

import base64
import io
import json
import pickle
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from insitu.domain.outputs import OutputType, Verdict
from insitu.gate import examine, safe_types
from insitu.gate.checks import types
from insitu.gate.known.content import ContentFound
from insitu.gate.rows.scan import RowScan
from insitu.gate.structures import Structures
from tests.unit.gate.gate_world import (
    index_of,
    judge_one,
    mlmodel,
    model_folder,
    pickled_folder,
    skops_bytes,
    training,
    wdbc,
)

# Nothing but the scan between a model and the world: no rounding, and a ceiling that nothing reaches.
LOOSE = "version: 1\nrelease: {models: {formats: [skops], max_bytes: 5MB, ceiling: 5MB}}"


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Path:
    return index_of(wdbc(), tmp_path_factory.mktemp("data") / "index")


class Harmless(KNeighborsClassifier):
    """A neighbours model under a name that says nothing."""


def fitted(estimator, scaler=None):
    features, labels = training()
    return make_pipeline(*([scaler] if scaler else []), estimator).fit(features, labels)


def linear_with(attribute) -> Any:
    """An estimator on the safe list that carries something in an attribute of its own."""
    model: Any = fitted(LogisticRegression(max_iter=500), StandardScaler())
    model[-1].notes_ = attribute
    return model


FEATURES = training()[0].to_numpy()
SCALED = (FEATURES - FEATURES.mean(axis=0)) / FEATURES.std(axis=0)
SMUGGLED = {
    "rows": FEATURES,
    "scaled rows": SCALED,
    "scaled rows in single precision": SCALED.astype("f4"),
    "scaled, mirrored and shuffled rows": (SCALED * -3 + 8)[np.random.default_rng(0).permutation(len(SCALED))],
    "fifty of them": SCALED[:50],
    "columns one by one": [SCALED[:, column].copy() for column in range(30)],
    "a list of lists": FEATURES[:80].tolist(),
    "one long array": SCALED.ravel(),
}


@pytest.mark.parametrize("what", SMUGGLED)
def test_rows_in_an_attribute_of_a_safe_estimator_are_found(tmp_path, index, what):
    decision = judge_one(
        model_folder(tmp_path / "m", skops_bytes(linear_with(SMUGGLED[what]))), index, tmp_path / "out"
    )
    assert (decision.verdict, decision.rule) == (Verdict.HELD, "rows-in-model")


@pytest.mark.parametrize("what", SMUGGLED)
def test_without_the_scan_rows_in_an_attribute_would_leave(tmp_path, index, monkeypatch, what):
    blind(monkeypatch)
    folder = model_folder(tmp_path / "m", skops_bytes(linear_with(SMUGGLED[what])))
    decision = judge_one(folder, index, tmp_path / "out", policy=LOOSE)
    assert decision.verdict is Verdict.RELEASED
    leaked = skops.io.load(tmp_path / "out" / "model" / "model.skops")
    assert np.array_equal(np.array(leaked[-1].notes_), np.array(SMUGGLED[what]))


def blind(monkeypatch) -> None:
    """Take the scan away, of arrays, of text and of what is built to keep rows."""
    monkeypatch.setattr(examine, "ContentScan", _BlindContentScan)
    monkeypatch.setattr(examine, "structures_in", lambda *_: Structures())
    monkeypatch.setattr(RowScan, "find", lambda *_: _nothing())
    monkeypatch.setattr(examine, "LineScan", _BlindLineScan)


def _nothing():
    from insitu.gate.rows.evidence import NO_ROWS
    from insitu.gate.rows.scan import RowsFound

    return RowsFound(NO_ROWS, ())


class _BlindContentScan:
    found = ContentFound()

    def __init__(self, *_):
        pass

    def look_at_bytes(self, *_):
        pass

    look_at_texts = look_at_numbers = look_at_bytes


class _BlindLineScan:
    names = 0

    def __init__(self, known):
        del known

    def rows_in(self, line):
        del line
        return 0


def test_without_undoing_maps_scaled_rows_would_leave(tmp_path, index, monkeypatch):
    before = RowScan.__init__

    def without(self, *args, **options):
        before(self, *args, **{**options, "undo_maps": False})

    monkeypatch.setattr(RowScan, "__init__", without)
    monkeypatch.setattr(examine, "structures_in", lambda *_: Structures())
    folder = model_folder(tmp_path / "m", skops_bytes(linear_with(SMUGGLED["scaled rows"])))
    assert judge_one(folder, index, tmp_path / "out", policy=LOOSE).verdict is Verdict.RELEASED


@pytest.mark.parametrize("save", [pickle.dumps, cloudpickle.dumps], ids=["pickle", "cloudpickle"])
@pytest.mark.parametrize("scaler", [None, StandardScaler()], ids=str)
def test_a_renamed_neighbours_model_is_found_by_what_it_holds(tmp_path, index, monkeypatch, save, scaler):
    document = mlmodel()
    document["flavors"]["sklearn"].update(pickled_model="model.pkl", serialization_format="cloudpickle")
    folder = model_folder(tmp_path / "m", save(fitted(Harmless(), scaler)), document=document)
    decision = judge_one(folder, index, tmp_path / "out")
    assert (decision.verdict, decision.rule, decision.measure) == (
        Verdict.HELD, "rows-in-model", "426 of the dataset's 569 rows",
    )  # fmt: skip
    blind(monkeypatch)  # then nothing of what it holds is known, and only its packing is left to object to
    assert judge_one(folder, index, tmp_path / "out").rule == "pickles"


def test_trusting_the_type_of_a_model_does_not_let_its_rows_out(tmp_path, index, monkeypatch):
    policy = (
        "version: 1\nrelease: {models: {formats: [skops], max_bytes: 5MB, ceiling: 5MB, trusted_types: "
        "[sklearn.neighbors._classification.KNeighborsClassifier, sklearn.svm._classes.SVC]}}"
    )
    for number, estimator in enumerate((KNeighborsClassifier(), SVC())):
        folder = model_folder(tmp_path / f"m{number}", skops_bytes(fitted(estimator, StandardScaler())))
        decision = judge_one(folder, index, tmp_path / "out", policy=policy)
        assert (decision.verdict, decision.rule) == (Verdict.HELD, "rows-in-model")
        with monkeypatch.context() as without:
            blind(without)
            assert judge_one(folder, index, tmp_path / "out2", policy=policy).verdict is Verdict.RELEASED


def test_a_model_of_rows_that_no_map_undoes_is_still_held_by_its_type(tmp_path, index, monkeypatch):
    """Neighbours of principal components: the scan can't see through a rotation, the safe list need not."""
    from sklearn.decomposition import PCA

    features, labels = training()
    data = skops_bytes(make_pipeline(StandardScaler(), PCA(), KNeighborsClassifier()).fit(features, labels))
    decision = judge_one(model_folder(tmp_path / "m", data), index, tmp_path / "out")
    assert (decision.verdict, decision.rule) == (Verdict.HELD, "types")
    everything = safe_types.SAFE_TYPES | {"sklearn.neighbors._classification.KNeighborsClassifier"}
    monkeypatch.setattr(types, "SAFE_TYPES", everything)
    monkeypatch.setattr(examine, "structures_in", lambda *_: Structures())  # which see a label for each row
    assert judge_one(model_folder(tmp_path / "n", data), index, tmp_path / "out").verdict is Verdict.RELEASED


def test_example_rows_beside_a_model_stay(tmp_path, index):
    rows = training()[0].head(5)
    data = skops_bytes(fitted(LogisticRegression(max_iter=500), StandardScaler()))
    folder = model_folder(
        tmp_path / "m",
        data,
        input_example__json=rows.to_json().encode(),
        serving_input_example__json=rows.to_json().encode(),
        notes__csv=rows.to_csv().encode(),
    )
    assert judge_one(folder, index, tmp_path / "out").verdict is Verdict.RELEASED
    sent = b"".join(path.read_bytes() for path in (tmp_path / "out" / "model").iterdir())
    assert not [value for value in rows.to_numpy().ravel() if str(value).encode() in sent and len(str(value)) > 5]


@pytest.mark.parametrize("form", ["json", "csv", "base64", "npy"])
def test_rows_declared_as_a_file_are_held(tmp_path, index, monkeypatch, form):
    rows = training()[0].sample(20, random_state=2)
    path = tmp_path / f"scores.{form}"
    if form == "json":
        path.write_text(rows.to_json(orient="split"))
    elif form == "csv":
        path.write_text(rows.to_csv(index=False))
    elif form == "base64":
        path.write_text(json.dumps({"weights": base64.b64encode(rows.to_numpy().tobytes()).decode()}))
    else:
        out = io.BytesIO()
        np.save(out, rows.to_numpy())
        path.write_bytes(out.getvalue())
    decision = judge_one(path, index, tmp_path / "out", type=OutputType.URI_FILE)
    assert (decision.verdict, decision.rule, decision.measure) == (
        Verdict.HELD, "rows-in-model", "20 of the dataset's 569 rows",
    )  # fmt: skip
    blind(monkeypatch)
    without = judge_one(path, index, tmp_path / "out2", type=OutputType.URI_FILE)
    others = {
        "json": "clean",
        "csv": "clean",
        "base64": "encoded-text",
        "npy": "kind",
    }  # a second rule behind the first
    assert without.rule == others[form]


def test_a_pickle_of_an_honest_model_is_held_as_a_pickle(tmp_path, index):
    folder = pickled_folder(tmp_path / "m", fitted(LogisticRegression(max_iter=500), StandardScaler()))
    decision = judge_one(folder, index, tmp_path / "out")
    assert (decision.verdict, decision.rule) == (Verdict.HELD, "pickles")
