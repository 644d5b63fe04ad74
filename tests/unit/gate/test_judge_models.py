"""Weights in the open formats through the whole judge: what leaves, what is held, and what it could carry."""

import dataclasses
import json
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
from skl2onnx import to_onnx
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from insitu.domain.outputs import Decision, OutputContract, OutputType, ReleaseContract, Verdict
from insitu.gate.judge import judge
from insitu.gate.judgement import Candidate, JudgeRequest
from tests.unit.gate.gate_world import PACKAGES, index_of

RNG = np.random.default_rng(0)
POLICY = """
version: 1
release:
  models:
    formats: [safetensors, onnx, json]
    max_bytes: 1MB
    precision: bfloat16
    ceiling: 64kB
    free_ceiling: 500
  files: {formats: [csv, json, png], max_bytes: 100kB}
"""
COLUMNS = [f"f{at}" for at in range(6)]


def people() -> pd.DataFrame:
    table = pd.DataFrame(np.round(RNG.normal(50, 9, (600, 6)), 3), columns=pd.Index(COLUMNS))
    table["sick"] = (table["f0"] + table["f1"] + RNG.normal(0, 5, 600) > 100).astype(int)
    return table


@pytest.fixture(scope="module")
def table():
    return people()


@pytest.fixture(scope="module")
def index(table, tmp_path_factory):
    return index_of(table, tmp_path_factory.mktemp("people") / "index")


@pytest.fixture
def decided(index, tmp_path):
    def decide(files: dict[str, bytes], *, type=OutputType.CUSTOM_MODEL, in_envelope=True) -> Decision:
        folder, out = tmp_path / "written", tmp_path / "out"
        folder.mkdir()
        out.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        request = JudgeRequest(
            policy=POLICY,
            contract=ReleaseContract(outputs=(OutputContract("model", type),)),
            candidates=(Candidate("model", type, folder),),
            index_dirs=(index,),
            lock_packages=PACKAGES,
            out_dir=out,
        )
        return judge(dataclasses.replace(request, in_envelope=in_envelope)).decisions[0]

    return decide


def weights(**changes) -> dict[str, bytes]:
    tensors = {
        "fc1.weight": RNG.normal(size=(64, 20)).astype(np.float32),
        "fc1.bias": RNG.normal(size=64).astype(np.float32),
        "fc2.weight": RNG.normal(size=(1, 64)).astype(np.float32),
    }
    return {"model.safetensors": safetensors.numpy.save({**tensors, **changes})}


def as_json(document) -> dict[str, bytes]:
    return {"model.json": json.dumps(document).encode()}


def as_onnx(model, table) -> dict[str, bytes]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = model.fit(table[COLUMNS].to_numpy(), table["sick"])
        written: Any = to_onnx(fitted, table[COLUMNS].to_numpy("f4")[:1])
        return {"model.onnx": written.SerializeToString()}


def a_tree(table, leaf: int) -> dict[str, bytes]:
    tree = DecisionTreeClassifier(min_samples_leaf=leaf, random_state=0).fit(table[COLUMNS], table["sick"]).tree_
    names = ("children_left", "children_right", "feature", "n_node_samples")
    document = {name: getattr(tree, name).tolist() for name in names}
    return as_json({**document, "threshold": np.floor(tree.threshold).astype(int).tolist()})


def test_a_small_network_leaves_inside_an_envelope_and_is_held_outside(decided):
    decision = decided(weights())
    assert (decision.verdict, decision.rule) == (Verdict.RELEASED, "clean")
    assert decision.files == ("model.safetensors",)
    assert 1500 < decision.ceiling_bytes < 3000  # 1,408 weights of about twelve bits


def test_outside_of_an_envelope_it_is_held_with_a_word_on_envelopes(decided):
    decision = decided(weights(), in_envelope=False)
    assert (decision.verdict, decision.rule) == (Verdict.HELD, "ceiling")
    assert "run envelope" in decision.hint
    assert decision.ceiling_bytes > 500


def test_a_linear_model_as_json_leaves_without_an_envelope(decided, table):
    model = LogisticRegression(max_iter=2000).fit(table[COLUMNS], table["sick"])
    document = {"features": COLUMNS, "coef": model.coef_.tolist(), "intercept": float(table["f0"][3])}
    decision = decided(as_json(document), in_envelope=False)
    assert (decision.verdict, decision.rule) == (Verdict.RELEASED, "clean")


def test_a_tree_with_large_leaves_leaves_and_one_with_small_leaves_is_held(decided, table):
    assert decided(a_tree(table, 20)).rule == "clean"


def test_a_tree_with_small_leaves_is_held(decided, table):
    assert decided(a_tree(table, 3)).rule == "small-leaves"


def test_centres_of_large_groups_leave(decided, table):
    centres = KMeans(3, random_state=0).fit(table[COLUMNS]).cluster_centers_
    assert decided(as_json({"centres": centres.tolist()})).rule == "clean"


def test_a_linear_model_as_onnx_leaves_with_a_configuration_beside_it(decided, table):
    files = as_onnx(LogisticRegression(max_iter=2000), table)
    decision = decided({**files, "config.json": b'{"threshold": 0.5}'})
    assert (decision.verdict, decision.rule) == (Verdict.RELEASED, "clean")
    assert decision.files == ("config.json", "model.onnx")


def test_support_vectors_are_held_by_their_rows_and_by_their_operator(decided, table):
    decision = decided(as_onnx(SVC(), table))
    assert decision.verdict is Verdict.HELD
    assert {"rows-in-model", "stored-rows"} <= {finding.rule for finding in decision.findings}
    assert decision.digest is None


def test_rows_in_neurons_that_hardly_speak_are_found_before_rounding_blurs_them(decided, table):
    first = RNG.normal(size=(64, 6)).astype(np.float32)
    first[:30] = table[COLUMNS][:30]
    second = RNG.normal(size=(1, 64)).astype(np.float32)
    second[0, :30] = 1e-9
    decision = decided(weights(**{"fc1.weight": first, "fc2.weight": second}))
    assert (decision.verdict, decision.rule) == (Verdict.HELD, "rows-in-model")
    assert decision.measure == "30 of the dataset's 600 rows"


def test_a_table_in_a_folder_of_files_has_a_ceiling_too(decided):
    decision = decided({"t.json": b'{"auc": 0.91}'}, type=OutputType.URI_FOLDER)
    assert decision.rule == "clean"
    assert 0 < decision.ceiling_bytes <= decision.size_bytes + 30


def test_a_confusion_table_with_a_group_of_one_is_held(decided):
    decision = decided({"c.csv": b"actual,p0,p1\nno,240,1\nyes,33,500\n"}, type=OutputType.URI_FOLDER)
    assert (decision.verdict, decision.rule) == (Verdict.HELD, "small-groups")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"model.json": weights()["model.safetensors"]}, "safetensors under another name"),
        ({"model.bin": b"\x00\x01\x02"}, "not weights that can be rewritten"),
        ({"config.json": b"[" * 99}, "not weights that can be rewritten"),
    ],
)
def test_what_can_not_be_rewritten_is_held_and_says_why(decided, files, says):
    decision = decided(files)
    assert (decision.verdict, decision.rule) == (Verdict.HELD, "kind")
    assert says in decision.measure
    assert decision.hint
