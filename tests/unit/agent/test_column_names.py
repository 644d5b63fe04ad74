"""Names of columns leave the site, unless they are none."""

from __future__ import annotations

import pytest

from insitu.agent.column_names import objection_to, told_names


@pytest.mark.parametrize(
    "name",
    ["age", "mean radius", "glucose (mg/dl)", "Größe", "V1", "ratio a/b", "2nd visit", "column 0", "sodium.mmol", "x"],
)
def test_names_of_words_and_units_are_told(name: str) -> None:
    assert objection_to(name) == ""


@pytest.mark.parametrize(
    "name",
    [
        "/mnt/ward7/patients.csv",
        "~/data",
        "../export",
        "C:\\clinic\\a.csv",
        "s3://bucket/key",
        "a/b/c.csv",
        "\\\\srv\\x",
    ],
)
def test_a_name_like_a_path_is_not(name: str) -> None:
    assert objection_to(name) == "it looks like a path"


@pytest.mark.parametrize(
    "name",
    ["17.99", "-3", "1e-5", "1.184,5", "2024-03-01", "01.02.1960", "ann@example.org", "842302917", "id 19600102 x",
     "550e8400-e29b-41d4-a716-446655440000"],
)  # fmt: skip
def test_nor_is_one_like_a_value(name: str) -> None:
    assert objection_to(name) == "it looks like a value"


@pytest.mark.parametrize("name", ["a" * 101, "a\x1b[31m", "a\u202eb"])
def test_nor_what_is_long_or_not_printable(name: str) -> None:
    assert objection_to(name)


def test_a_row_where_names_should_stand_is_told_by_none_of_its_cells() -> None:
    told, withheld = told_names(["842302", "M", "17.99", "Ann Smith"])
    assert told == ["column-1", "column-2", "column-3", "column-4"]
    assert [one.name for one in withheld] == ["842302", "M", "17.99", "Ann Smith"]
    assert "header" in withheld[1].why


def test_what_is_told_instead_of_a_name_is_no_other_columns_name() -> None:
    told, _ = told_names(["/a/b", "column-1", "age"])
    assert told == ["column-1-", "column-1", "age"]
