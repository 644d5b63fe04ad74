"""Mock data: of the dataset's columns, as far as they were published, and the same for the same seed."""

from __future__ import annotations

import csv
import io

import numpy as np
import pyarrow.parquet as pq
import pytest

from insitu.domain.errors import InvalidInputError
from insitu.sdk.mock import as_bytes, mock_table, usual_rows
from insitu.wire.datasets import ColumnSummary, ColumnView
from insitu.wire.people import DatasetView


def a_view(*columns: ColumnView, rows: str = "100-499", format_: str = "csv") -> DatasetView:
    return DatasetView(
        site="leeds", name="wdbc", version=1, digest="d", rows=rows, columns=list(columns), format=format_
    )


def told(name: str, kind: str, **summary: object) -> ColumnView:
    return ColumnView(name=name, type=kind, summary=ColumnSummary.model_validate(summary) if summary else None)


AGE = told("age", "int64", range=(20, 90), quartiles=(40, 50, 70))
SEX = told("sex", "string", categories=["f", "m"])
DOSE = told("dose", "double", range=(0.1, 0.5), missing="25-50%")


def values(column: ColumnView, rows: int = 1000) -> list:
    return mock_table(a_view(column), rows=rows)[column.name]


def test_the_same_seed_makes_the_same_table_and_another_seed_another() -> None:
    view = a_view(AGE, SEX, DOSE)
    assert mock_table(view, seed=1) == mock_table(view, seed=1)
    assert mock_table(view, seed=1) != mock_table(view, seed=2)


def test_the_first_values_are_what_they_were_on_every_machine() -> None:
    table = mock_table(a_view(AGE, SEX), rows=5, seed=0)
    assert table == {"age": [65, 78, 78, 60, 35], "sex": ["f", "m", "m", "f", "m"]}


def test_a_column_more_or_less_changes_no_other() -> None:
    assert mock_table(a_view(AGE, SEX))["age"] == mock_table(a_view(AGE))["age"]


def test_ranges_and_quartiles_are_followed() -> None:
    ages = np.array(values(AGE))
    assert (ages.min() >= 20, ages.max() <= 90, ages.dtype.kind) == (True, True, "i")
    for mark, share in ((40, 0.25), (50, 0.5), (70, 0.75)):
        assert abs((ages < mark).mean() - share) < 0.06


def test_categories_are_followed_and_those_of_integers_are_integers() -> None:
    assert set(values(SEX)) == {"f", "m"}
    assert set(values(told("stage", "int64", categories=["1", "2"]))) == {1, 2}


def test_missing_values_are_there_about_as_often_and_never_where_each_row_has_one() -> None:
    assert 0.3 < sum(value is None for value in values(DOSE)) / 1000 < 0.45
    required = DOSE.model_copy(update={"nullable": False})
    assert None not in values(required)


@pytest.mark.parametrize(("kind", "kinds"), [("int64", {int}), ("double", {float}), ("string", {str}), ("date", {str})])
def test_of_a_column_of_which_nothing_was_published_the_type_is_right(kind: str, kinds: set[type]) -> None:
    assert {type(value) for value in values(told("x", kind))} == kinds


def test_a_column_of_integers_can_be_what_a_classifier_learns() -> None:
    assert set(values(told("malignant", "int64"))) == {0, 1}


@pytest.mark.parametrize(("band", "rows"), [("<100", 50), ("100-499", 100), ("500-999", 500), ("100000-499999", 1000)])
def test_it_has_about_as_many_rows_and_no_more_than_a_desk_needs(band: str, rows: int) -> None:
    assert usual_rows(a_view(AGE, rows=band)) == rows
    assert len(mock_table(a_view(AGE, rows=band))["age"]) == rows


def test_a_csv_reads_back() -> None:
    table = mock_table(a_view(AGE, told('a "b", c', "string")), rows=3)
    rows = list(csv.DictReader(io.StringIO(as_bytes(table, {}, "csv").decode())))
    assert [int(row["age"]) for row in rows] == table["age"]
    assert list(rows[0]) == ["age", 'a "b", c']


def test_a_plain_array_reads_back() -> None:
    columns = [told(f"column {at}", "double", range=(0, 1)) for at in range(3)]
    table = mock_table(a_view(*columns), rows=7)
    array = np.load(io.BytesIO(as_bytes(table, {c.name: c.type for c in columns}, "npy")), allow_pickle=False)
    assert array.shape == (7, 3)
    assert array[:, 1].tolist() == table["column 1"]


def test_an_array_of_records_reads_back() -> None:
    height = told("Größe Ω", "double")
    table = mock_table(a_view(AGE, DOSE, height), rows=9)
    types = {"age": "int64", "dose": "double", "Größe Ω": "double"}
    array = np.load(io.BytesIO(as_bytes(table, types, "npy")), allow_pickle=False)
    assert array["Größe Ω"].tolist() == table["Größe Ω"]
    assert array["age"].tolist() == table["age"]
    assert np.isnan(array["dose"]).tolist() == [value is None for value in table["dose"]]


def test_parquet_reads_back() -> None:
    table = mock_table(a_view(AGE, SEX), rows=9)
    assert pq.read_table(io.BytesIO(as_bytes(table, {}, "parquet"))).to_pydict() == table


@pytest.mark.parametrize("rows", [0, -1, 2_000_000])
def test_a_number_of_rows_that_cannot_be_is_refused(rows: int) -> None:
    with pytest.raises(InvalidInputError, match="can't be made"):
        mock_table(a_view(AGE), rows=rows)


def test_without_columns_or_of_pictures_there_is_none_and_it_is_said_what_to_do() -> None:
    with pytest.raises(InvalidInputError) as refused:
        mock_table(a_view(format_="images"))
    assert "--data" in refused.value.hint
    with pytest.raises(InvalidInputError):
        as_bytes({"a": [1]}, {}, "images")
