"""Rebuilding MLmodel folders."""

import json
import warnings
from typing import Any, cast

import mlflow.models
import mlflow.pyfunc
import numpy as np
import pytest
import skops.io
import yaml
from mlflow import onnx as mlflow_onnx
from mlflow import sklearn as mlflow_sklearn
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from insitu.gate.canonical.precision import Rounding
from insitu.gate.effort import Effort
from insitu.gate.models import NotRebuiltError, RebuiltModel, rebuild_model
from tests.unit.gate.gate_world import PACKAGES, mlmodel, skops_bytes, training, wdbc

COLUMNS = tuple(wdbc().columns)


@pytest.fixture(scope="module")
def pipeline():
    features, labels = training()
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, labels)


@pytest.fixture(scope="module")
def stored(pipeline) -> bytes:
    return skops_bytes(pipeline)


def rebuilt(
    stored: bytes, document=None, *, columns=COLUMNS, trusted=(), packages=PACKAGES, **files: bytes
) -> RebuiltModel:
    written = {"MLmodel": yaml.safe_dump(document or mlmodel()).encode(), "model.skops": stored}
    written.update({name.replace("__", "."): data for name, data in files.items()})
    return rebuild_model(written, columns=columns, lock_packages=packages, trusted_types=trusted, effort=Effort())


def described(model: RebuiltModel) -> Any:
    return yaml.safe_load(model.files["MLmodel"])


def test_what_mlflow_really_writes_is_rebuilt_and_loads_and_predicts(tmp_path, pipeline):
    features, _ = training()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow_sklearn.save_model(
            pipeline,
            str(tmp_path / "written"),
            serialization_format="skops",
            pip_requirements=["scikit-learn"],
            input_example=cast("Any", features[:3]),
            signature=mlflow.models.infer_signature(features, pipeline.predict(features)),
        )
        files = {path.name: path.read_bytes() for path in (tmp_path / "written").iterdir()}
        model = rebuild_model(files, columns=COLUMNS, lock_packages=PACKAGES, trusted_types=(), effort=Effort())
        (tmp_path / "copy").mkdir()
        for name, data in model.files.items():
            (tmp_path / "copy" / name).write_bytes(data)
        again: Any = mlflow_sklearn.load_model(str(tmp_path / "copy"))
        as_function: Any = mlflow.pyfunc.load_model(str(tmp_path / "copy"))
        expected = pipeline.predict(features)
        assert np.array_equal(again.predict(features), expected)
        assert np.array_equal(as_function.predict(features), expected)
    assert set(model.files) == {"MLmodel", "model.skops", "requirements.txt", "conda.yaml", "python_env.yaml"}
    assert "example input" in model.dropped
    assert [column["name"] for column in json.loads(described(model)["signature"]["inputs"])] == list(features.columns)


def test_the_copy_is_the_same_each_time_and_names_no_time_or_id(stored):
    first = rebuilt(stored)
    second = rebuilt(stored, mlmodel(model_uuid="f" * 32, utc_time_created="2027-01-01", model_id="m-1", run_id="r"))
    assert first.files == second.files
    assert "2026" not in first.files["MLmodel"].decode()


def test_requirements_come_from_the_lock_alone(stored):
    model = rebuilt(
        stored, requirements__txt=b"--index-url https://example.org\nevil\n", conda__yaml=b"evil", setup__py=b"evil"
    )
    assert model.files["requirements.txt"] == b"mlflow==3.17.2\nscikit-learn==1.9.1\nskops==0.16.0\n"
    assert yaml.safe_load(model.files["conda.yaml"])["dependencies"][2] == {"pip": [f"{n}=={v}" for n, v in PACKAGES]}
    assert b"evil" not in b"".join(model.files.values())
    assert model.dropped == ("code",)


def test_versions_come_from_the_lock_or_must_look_like_versions(stored):
    assert described(rebuilt(stored, packages=(("mlflow-skinny", "3.1"),)))["mlflow_version"] == "3.1"
    odd = mlmodel(mlflow_version="17.99 10.38")
    odd["flavors"]["sklearn"]["sklearn_version"] = "secret"
    odd["flavors"]["python_function"]["python_version"] = "secret"
    odd["flavors"]["python_function"]["predict_fn"] = "exec"
    document = described(rebuilt(stored, odd, packages=()))
    assert "mlflow_version" not in document
    assert "secret" not in json.dumps(document)
    assert document["flavors"]["python_function"]["predict_fn"] == "predict"
    assert yaml.safe_load(rebuilt(stored, odd).files["conda.yaml"])["dependencies"][0] == "python"


def test_predict_proba_may_stay(stored):
    document = mlmodel()
    document["flavors"]["python_function"]["predict_fn"] = "predict_proba"
    assert described(rebuilt(stored, document))["flavors"]["python_function"]["predict_fn"] == "predict_proba"


def test_other_flavours_and_unknown_keys_are_left_behind(stored):
    document = mlmodel(metadata={"rows": [1, 2, 3]}, secret="17.99")
    document["flavors"]["openai"] = {"x": 1}
    document["flavors"]["sklearn"]["more"] = "17.99"
    text = rebuilt(stored, document).files["MLmodel"].decode()
    assert "17.99" not in text
    assert "openai" not in text
    assert "metadata" not in text


def test_trusted_types_are_the_policys_and_only_those_that_the_model_has():
    features, labels = training()
    neighbours = skops_bytes(KNeighborsClassifier().fit(features, labels))
    document = mlmodel()
    document["flavors"]["sklearn"]["skops_trusted_types"] = ["os.system"]
    name = "sklearn.neighbors._classification.KNeighborsClassifier"
    flavor = described(rebuilt(neighbours, document, trusted=(name, "sklearn.tree._tree.Tree")))["flavors"]["sklearn"]
    assert flavor["skops_trusted_types"] == [name]
    assert described(rebuilt(neighbours, document))["flavors"]["sklearn"]["skops_trusted_types"] is None


def test_a_plain_flavour_without_python_function_is_enough(stored):
    document = mlmodel()
    del document["flavors"]["python_function"]
    assert "python_function" in described(rebuilt(stored, document))["flavors"]


def with_flavor(**fields) -> dict:
    document = mlmodel()
    document["flavors"]["sklearn"].update(fields)
    return document


def with_loader(loader: str) -> dict:
    document = mlmodel()
    document["flavors"]["python_function"]["loader_module"] = loader
    return document


def with_code() -> dict:
    document = mlmodel()
    document["flavors"]["python_function"]["code"] = "code"
    return document


@pytest.mark.parametrize(
    ("document", "rule"),
    [
        (mlmodel(flavors={"python_function": {"loader_module": "mlflow.pyfunc.model"}}), "kind"),
        (mlmodel(flavors=None), "kind"),
        (with_flavor(serialization_format="cloudpickle"), "kind"),
        (with_flavor(pickled_model="nowhere.skops"), "kind"),
        (with_flavor(pickled_model=5), "kind"),
        (with_flavor(code="code"), "model-code"),
        (with_code(), "model-code"),
        (with_loader("os"), "model-code"),
    ],
)
def test_what_is_not_plainly_a_skops_model_is_not_rebuilt(stored, document, rule):
    with pytest.raises(NotRebuiltError) as caught:
        rebuilt(stored, document)
    assert caught.value.rule == rule
    assert caught.value.hint


@pytest.mark.parametrize("text", [b"", b"[]", b"\xff", b"a: [", b"x: &a [1]\ny: *a", b"x" * 2_000_000, b"[" * 1500])
def test_an_mlmodel_that_is_none_is_not_rebuilt(stored, text):
    with pytest.raises(NotRebuiltError):
        rebuild_model(
            {"MLmodel": text, "model.skops": stored}, columns=(), lock_packages=(), trusted_types=(), effort=Effort()
        )


def test_a_folder_without_mlmodel_or_with_a_broken_model_is_not_rebuilt(stored):
    with pytest.raises(NotRebuiltError, match="no MLmodel"):
        rebuild_model({"model.skops": stored}, columns=(), lock_packages=(), trusted_types=(), effort=Effort())
    with pytest.raises(NotRebuiltError):
        rebuilt(b"no skops")


def signature(model: RebuiltModel) -> Any:
    return described(model).get("signature")


def test_a_signature_of_generic_names_and_tensors_stays(stored):
    inputs = json.dumps([{"type": "double", "name": "feature_1", "required": True}, {"type": "long", "name": "col2"}])
    outputs = json.dumps([{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}, "name": "prediction"}])
    model = rebuilt(stored, mlmodel(signature={"inputs": inputs, "outputs": outputs, "params": None}))
    assert json.loads(signature(model)["inputs"]) == json.loads(inputs)
    assert json.loads(signature(model)["outputs"]) == json.loads(outputs)
    assert model.dropped == ()


@pytest.mark.parametrize(
    "inputs",
    [
        '[{"type": "double", "name": "Ada Lovelace"}]',
        '[{"type": "secret"}]',
        '[{"type": "tensor", "tensor-spec": {"dtype": "secret", "shape": [1]}}]',
        '[{"type": "tensor", "tensor-spec": {"dtype": "int8", "shape": [123456789012345]}}]',
        '[{"type": "tensor", "tensor-spec": {"dtype": "int8", "shape": 3}}]',
        '{"a": 1}',
        "[5]",
        "[",
        "[" * 100_000,
        json.dumps([{"type": "double"}] * 6000),
    ],
)
def test_a_signature_with_anything_else_is_left_behind(stored, inputs):
    model = rebuilt(stored, mlmodel(signature={"inputs": inputs}))
    assert signature(model) is None
    assert model.dropped == ("signature",)


def test_an_empty_signature_is_none(stored):
    assert signature(rebuilt(stored, mlmodel(signature={"inputs": None}))) is None


@pytest.fixture(scope="module")
def onnx_model(pipeline) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return to_onnx(pipeline, training()[0].to_numpy("f4")[:1], options={"zipmap": False})


def test_an_onnx_folder_that_mlflow_really_writes_is_rebuilt_and_predicts(tmp_path, pipeline, onnx_model):
    features, _ = training()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow_onnx.save_model(onnx_model, str(tmp_path / "written"), pip_requirements=["onnxruntime"])
        files = {path.name: path.read_bytes() for path in (tmp_path / "written").iterdir()}
        model = rebuild_model(
            files,
            columns=COLUMNS,
            lock_packages=PACKAGES,
            trusted_types=(),
            effort=Effort(),
            rounding=Rounding("bfloat16"),
        )
        (tmp_path / "copy").mkdir()
        for name, data in model.files.items():
            (tmp_path / "copy" / name).write_bytes(data)
        as_function: Any = mlflow.pyfunc.load_model(str(tmp_path / "copy"))
        answers = as_function.predict(features.to_numpy("f4"))
    label = next(values for values in answers.values() if np.asarray(values).ndim == 1)
    assert (np.asarray(label) == pipeline.predict(features)).mean() > 0.99
    assert (model.format, set(model.files) - {"MLmodel"}) == (
        "onnx",
        {"model.onnx", "requirements.txt", "conda.yaml", "python_env.yaml"},
    )
    assert "session" not in model.files["MLmodel"].decode()
    assert 0 < model.carries_bits < 8 * 2000


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"onnx": {"data": "model.onnx", "code": "code"}}, "model-code"),
        ({"onnx": {"data": "../model.onnx"}}, "kind"),
        ({"onnx": {"data": ["model.onnx"]}}, "kind"),
        ({"onnx": {"data": "model.onnx"}, "python_function": {"loader_module": "mlflow.sklearn"}}, "model-code"),
    ],
)
def test_an_onnx_folder_with_more_than_a_graph_is_not_rebuilt(onnx_model, changes, rule):
    files = {"MLmodel": yaml.safe_dump({"flavors": changes}).encode(), "model.onnx": onnx_model.SerializeToString()}
    with pytest.raises(NotRebuiltError) as caught:
        rebuild_model(files, columns=(), lock_packages=(), trusted_types=(), effort=Effort())
    assert caught.value.rule == rule


def test_rounding_keeps_what_a_pipeline_predicts_and_shrinks_what_it_could_carry(pipeline, stored):
    features, _ = training()
    written = {"MLmodel": yaml.safe_dump(mlmodel()).encode(), "model.skops": stored}
    more = {"columns": COLUMNS, "lock_packages": PACKAGES, "trusted_types": (), "effort": Effort()}
    exact, rounded = rebuild_model(written, **more), rebuild_model(written, **more, rounding=Rounding("bfloat16"))
    copy: Any = skops.io.loads(rounded.files["model.skops"], trusted=sorted(rounded.types))
    assert (copy.predict(features) == pipeline.predict(features)).mean() > 0.995
    assert rounded.carries_bits < 0.8 * exact.carries_bits
    assert rounded.carries_bits < 8 * 2000
