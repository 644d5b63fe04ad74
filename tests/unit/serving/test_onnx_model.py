"""An ONNX model is served as a scikit-learn model is: by its signature, its rows, and its probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skl2onnx
import yaml
from onnx import TensorProto, helper
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from insitu.serving.errors import RequestError, StartError
from insitu.serving.mlmodel import read_mlmodel
from insitu.serving.onnx_model import load_onnx
from insitu.serving.sklearn_model import LoadedModel
from insitu.serving.tables import Table, table_from_array, table_from_columns

TABLE: Any = load_breast_cancer(as_frame=True)
COLUMNS = list(TABLE.data.columns[:4])
ROWS = TABLE.data[COLUMNS].to_numpy()


def folder_of(place: Path, graph: Any, **document: Any) -> Path:
    place.mkdir()
    (place / "model.onnx").write_bytes(graph.SerializeToString())
    flavors = {"onnx": {"data": "model.onnx"}, "python_function": {"loader_module": "mlflow.onnx"}}
    (place / "MLmodel").write_text(yaml.safe_dump({"flavors": flavors, **document}))
    return place


def converted(estimator: Any) -> Any:
    options = {id(estimator[-1]): {"zipmap": False}} if hasattr(estimator, "predict_proba") else {}
    return skl2onnx.convert_sklearn(
        estimator, initial_types=[("x", FloatTensorType([None, len(COLUMNS)]))], options=options
    )


def fitted() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, TABLE.target)


@pytest.fixture
def model(tmp_path: Path) -> LoadedModel:
    return load_onnx(read_mlmodel(folder_of(tmp_path / "m", converted(fitted()))))


def test_it_predicts_as_what_it_was_converted_from(model: LoadedModel) -> None:
    table = table_from_array(ROWS[:100], model.signature)
    assert (model.predict(table, "predict") == fitted().predict(ROWS[:100])).mean() > 0.97


def test_its_second_output_is_asked_for_as_probabilities(model: LoadedModel) -> None:
    assert model.outputs == ("predict", "predict_proba")
    answer = model.predict(table_from_array(ROWS[:5], model.signature), "predict_proba")
    np.testing.assert_allclose(answer, fitted().predict_proba(ROWS[:5]), atol=1e-4)


def test_without_a_second_output_there_are_no_probabilities(tmp_path: Path) -> None:
    regression = make_pipeline(LinearRegression()).fit(ROWS, TABLE.target)
    assert load_onnx(read_mlmodel(folder_of(tmp_path / "m", converted(regression)))).outputs == ("predict",)


def test_columns_are_found_by_their_names(tmp_path: Path) -> None:
    inputs = "[" + ",".join(f'{{"name": "{name}", "type": "double"}}' for name in COLUMNS) + "]"
    folder = folder_of(tmp_path / "m", converted(fitted()), signature={"inputs": inputs})
    model = load_onnx(read_mlmodel(folder))
    shuffled = {name: list(ROWS[:7, at]) for at, name in reversed(list(enumerate(COLUMNS)))}
    table = table_from_columns(shuffled, model.signature, arrays=model.takes_arrays)
    assert list(model.predict(table, "predict")) == list(fitted().predict(ROWS[:7]))


def test_rows_of_several_requests_are_not_mixed(model: LoadedModel) -> None:
    """A graph may normalise over all rows of a call."""
    assert not model.rows_are_independent


def test_what_it_does_not_take_is_the_callers_error_and_quotes_no_value(model: LoadedModel) -> None:
    with pytest.raises(RequestError) as caught:
        model.predict(Table(np.full((2, 3), 4711.0), 2, ""), "predict")
    assert "4711" not in str(caught.value)


def test_a_graph_with_two_inputs_is_refused_at_start(tmp_path: Path) -> None:
    one, two, out = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in "abc")
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "g", [one, two], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    with pytest.raises(StartError) as caught:
        load_onnx(read_mlmodel(folder_of(tmp_path / "m", model)))
    assert caught.value.code == "unsupported-signature"


def test_what_is_no_graph_is_refused_at_start(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", converted(fitted()))
    (folder / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(StartError) as caught:
        load_onnx(read_mlmodel(folder))
    assert caught.value.code == "bad-model"


def test_a_file_outside_of_the_folder_is_not_read(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", converted(fitted()))
    (folder / "model.onnx").rename(tmp_path / "model.onnx")
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": {"onnx": {"data": "../model.onnx"}}}))
    with pytest.raises(StartError) as caught:
        read_mlmodel(folder)
    assert caught.value.code == "bad-mlmodel"
