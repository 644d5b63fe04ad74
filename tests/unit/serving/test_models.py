"""What a model folder may say, and what is refused before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from insitu.serving.errors import RequestError, StartError
from insitu.serving.mlmodel import read_mlmodel
from insitu.serving.signature import Column, Signature, Tensor, signature_from_mlmodel
from insitu.serving.tables import table_by_position, table_from_array, table_from_columns, table_from_rows

GOOD: dict[str, Any] = {
    "flavors": {
        "python_function": {"loader_module": "mlflow.sklearn", "predict_fn": "predict"},
        "sklearn": {"pickled_model": "model.skops", "serialization_format": "skops", "sklearn_version": "1.9.1"},
    },
    "mlflow_version": "3.17.2",
}


def folder_with(tmp_path: Path, **sklearn: Any) -> Path:
    document = json.loads(json.dumps(GOOD))
    document["flavors"]["sklearn"] |= sklearn
    (tmp_path / "MLmodel").write_text(json.dumps(document))
    (tmp_path / "model.skops").write_bytes(b"")
    return tmp_path


def code_of(folder: Path) -> str:
    with pytest.raises(StartError) as caught:
        read_mlmodel(folder)
    return caught.value.code


class TestFolder:
    def test_a_good_one_names_its_file_and_method(self, tmp_path):
        description = read_mlmodel(folder_with(tmp_path))
        assert (description.file, description.method) == (tmp_path / "model.skops", "predict")
        assert (description.sklearn_version, description.mlflow_version) == ("1.9.1", "3.17.2")

    @pytest.mark.parametrize(
        "sklearn",
        [
            {"pickled_model": "model.pkl", "serialization_format": "pickle"},
            {"pickled_model": "model.pkl", "serialization_format": "cloudpickle"},
            {"pickled_model": "model.pkl", "serialization_format": "skops"},
            {"pickled_model": "model.skops", "serialization_format": "pickle"},
            {"serialization_format": None},
        ],
    )
    def test_what_is_not_skops_in_name_and_format_is_taken_for_a_pickle(self, tmp_path, sklearn):
        assert code_of(folder_with(tmp_path, **sklearn)) == "pickle-refused"

    def test_a_file_outside_of_the_folder_is_refused(self, tmp_path):
        (tmp_path / "other.skops").touch()
        inner = tmp_path / "model"
        inner.mkdir()
        assert code_of(folder_with(inner, pickled_model="../other.skops")) == "bad-mlmodel"
        assert code_of(folder_with(inner, pickled_model=str(tmp_path / "other.skops"))) == "bad-mlmodel"
        (inner / "link.skops").symlink_to(tmp_path / "other.skops")
        assert code_of(folder_with(inner, pickled_model="link.skops")) == "bad-mlmodel"
        assert code_of(folder_with(inner, pickled_model="absent.skops")) == "bad-mlmodel"

    def test_other_flavours_and_methods_are_refused(self, tmp_path):
        (tmp_path / "MLmodel").write_text(json.dumps({"flavors": {"python_function": {}}}))
        assert code_of(tmp_path) == "unsupported-flavour"
        document = json.loads(json.dumps(GOOD))
        document["flavors"]["python_function"]["predict_fn"] = "__reduce__"
        (tmp_path / "MLmodel").write_text(json.dumps(document))
        (tmp_path / "model.skops").touch()
        assert code_of(tmp_path) == "unsupported-method"

    @pytest.mark.parametrize("text", ["[1]", "{", "a: !!python/object/apply:os.getcwd []"])
    def test_a_file_that_is_no_mapping_of_plain_values_is_refused(self, tmp_path, text):
        (tmp_path / "MLmodel").write_text(text)
        assert code_of(tmp_path) == "bad-mlmodel"

    def test_no_file_is_said(self, tmp_path):
        assert code_of(tmp_path) == "no-model"


def spec(*columns: tuple[str, str]) -> dict[str, str]:
    return {"inputs": json.dumps([{"name": name, "type": kind, "required": True} for name, kind in columns])}


class TestSignature:
    def test_columns_and_tensors_are_understood(self):
        assert signature_from_mlmodel(None) is None
        found = signature_from_mlmodel(spec(("a", "double"), ("b", "string")))
        assert found == Signature(columns=(Column("a", "double"), Column("b", "string")))
        tensor = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 3]}}]
        found = signature_from_mlmodel({"inputs": json.dumps(tensor)})
        assert found == Signature(tensor=Tensor("float64", (-1, 3)))

    @pytest.mark.parametrize(
        "inputs",
        [
            '[{"name": "a", "type": "binary"}]',
            '[{"name": "a", "type": "array", "items": {"type": "double"}}]',
            '[{"name": "a", "type": "any"}]',
            '[{"name": "a", "type": "double"}, {"name": "a", "type": "double"}]',
            '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}, {"type": "tensor"}]',
            '[{"type": "tensor", "tensor-spec": {"dtype": "complex128", "shape": [-1]}}]',
            '[{"type": "tensor"}]',
            '{"a": 1}',
            "[1]",
            "[",
        ],
    )
    def test_what_a_table_cannot_hold_is_refused_at_the_start(self, inputs):
        with pytest.raises(StartError) as caught:
            signature_from_mlmodel({"inputs": inputs})
        assert caught.value.code == "unsupported-signature"


def signature(**columns: str) -> Signature:
    return Signature(columns=tuple(Column(name, kind) for name, kind in columns.items()))


TAKEN = [
    ("double", 1, 1.0),
    ("double", "1.5", 1.5),
    ("double", True, 1.0),
    ("float", 0.1, np.float32(0.1)),
    ("long", 7, 7),
    ("long", 7.0, 7),
    ("long", "7", 7),
    ("long", 2**53 + 1, 2**53 + 1),
    ("integer", -3, -3),
    ("boolean", True, True),
    ("boolean", 0, False),
    ("string", "A", "A"),
    ("string", None, None),
    ("datetime", "2026-11-22T10:00:00", np.datetime64("2026-11-22T10:00:00", "ns")),
]
REFUSED = [
    ("double", "far"),
    ("double", [1.0]),
    ("double", {}),
    ("long", 1.5),
    ("long", None),
    ("long", "1.5"),
    ("long", 2**63),
    ("integer", 2**31),
    ("boolean", 2),
    ("boolean", "yes"),
    ("boolean", None),
    ("string", 1),
    ("datetime", "yesterday"),
]


class TestTables:
    @pytest.mark.parametrize(("kind", "value", "expected"), TAKEN)
    @pytest.mark.parametrize("arrays", [False, True])
    def test_a_value_becomes_one_of_its_columns_type(self, kind, value, expected, arrays):
        if arrays and kind in ("string", "datetime"):
            return  # no array of numbers
        table = table_from_rows(["a"], [[value]], signature(a=kind), arrays=arrays)
        got = table.values[0, 0] if arrays else table.values["a"].iloc[0]
        assert got == expected or (got is None and expected is None)

    @pytest.mark.parametrize(("kind", "value"), REFUSED)
    @pytest.mark.parametrize("arrays", [False, True])
    def test_a_value_of_another_type_is_refused_and_not_repeated(self, kind, value, arrays):
        with pytest.raises(RequestError) as caught:
            table_from_rows(["a"], [[value]], signature(a=kind), arrays=arrays)
        assert caught.value.status == 400
        assert "column a " in caught.value.message
        assert repr(value) not in caught.value.message

    def test_a_null_is_a_missing_number_where_numbers_may_be_missing(self):
        table = table_from_rows(["a", "b"], [[None, 1.0]], signature(a="double", b="double"), arrays=True)
        assert np.isnan(table.values[0, 0])

    def test_columns_are_put_in_the_signatures_order_and_others_are_left_out(self):
        sig = signature(a="double", b="double")
        for arrays in (False, True):
            table = table_from_rows(["x", "b", "a"], [["?", 2.0, 1.0]], sig, arrays=arrays)
            assert np.asarray(table.values).tolist() == [[1.0, 2.0]]
            table = table_from_columns({"b": [2.0], "x": ["?"], "a": [1.0]}, sig, arrays=arrays)
            assert np.asarray(table.values).tolist() == [[1.0, 2.0]]

    @pytest.mark.parametrize("names", [["a"], ["a", "c"], [], ["a", "a", "b"]])
    def test_a_missing_column_or_one_that_is_named_twice_is_refused(self, names):
        with pytest.raises(RequestError):
            table_from_rows(names, [[1.0] * len(names)], signature(a="double", b="double"), arrays=True)

    @pytest.mark.parametrize("rows", [[[1.0]], [[1.0, 2.0], [1.0]], [1.0, 2.0], [[1.0, 2.0, 3.0]], ["ab"], [None]])
    def test_rows_of_another_length_are_refused(self, rows):
        for arrays in (False, True):
            with pytest.raises(RequestError):
                table_from_rows(["a", "b"], rows, signature(a="double", b="double"), arrays=arrays)

    def test_only_tables_of_one_shape_and_kind_may_be_stacked(self):
        doubles, longs = signature(a="double", b="double"), signature(a="long", b="long")
        one = table_from_rows(["a", "b"], [[1.0, 2.0]], doubles, arrays=True)
        two = table_by_position(np.ones((3, 2)), doubles, arrays=True)
        other = table_from_rows(["a", "b"], [[1, 2]], longs, arrays=True)
        frame = table_from_rows(["a", "b"], [[1.0, 2.0]], doubles, arrays=False)
        assert one.mergeable == two.mergeable != other.mergeable
        assert frame.mergeable == ""

    def test_an_optional_column_may_be_absent(self):
        sig = Signature(columns=(Column("a", "double"), Column("b", "double", required=False)))
        assert list(table_from_rows(["a"], [[1.0]], sig, arrays=True).values.columns) == ["a"]

    @pytest.mark.parametrize("data", [[[1.0, 2.0]], [1.0, 2.0, 3.0], [["a", "b", "c"]], [[1.0], [1.0, 2.0]], None])
    def test_an_array_of_another_shape_or_kind_is_refused(self, data):
        with pytest.raises(RequestError):
            table_from_array(data, Signature(tensor=Tensor("float64", (-1, 3))))

    def test_fractions_do_not_vanish_in_a_tensor_of_integers(self):
        with pytest.raises(RequestError):
            table_from_array([[1.5]], Signature(tensor=Tensor("int64", (-1, 1))))
