"""What the hub is told of a dataset: names and types, and what the steward chose beyond them."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import numpy as np
import pytest

from insitu.agent.catalogue import DatasetVersion, add_dataset
from insitu.agent.datastores import add_datastore
from insitu.agent.folder import SiteFolder
from insitu.agent.publishing import (
    Publication,
    change,
    default_text,
    is_pending,
    make_offer,
    offer_of,
    parse_publication,
    publish,
    read_publication,
    write_default,
)
from insitu.agent.settings import AgentSettings, save_settings
from insitu.domain.errors import InvalidInputError
from insitu.wire.datasets import DatasetOffer

ROWS = 200


@pytest.fixture
def site(tmp_path: Path) -> SiteFolder:
    folder = SiteFolder(tmp_path / "site")
    folder.make()
    save_settings(folder, AgentSettings(hub="http://127.0.0.1:1"))
    (tmp_path / "data").mkdir()
    add_datastore(folder, "private", str(tmp_path / "data"))
    return folder


def patients() -> list[dict[str, object]]:
    """Ages with one of 103, a rare ward, a diagnosis for each row of its own."""
    draw = random.Random(3)
    rows = [
        {
            "age": draw.randint(20, 80),
            "weight": round(draw.uniform(50, 90), 1) if at % 3 else "",
            "ward": draw.choice(["north", "south"]),
            "note": f"seen on day {at}",
        }
        for at in range(ROWS)
    ]
    rows[7] |= {"age": 103, "ward": "isolation"}
    return rows


@pytest.fixture
def version(site: SiteFolder, tmp_path: Path) -> DatasetVersion:
    return add(site, tmp_path, patients())


def add(site: SiteFolder, tmp_path: Path, rows: list[dict[str, object]]) -> DatasetVersion:
    with (tmp_path / "data" / "patients.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return add_dataset(site, "patients", datastore="private", pattern="*.csv", description="a ward")


def test_without_a_word_of_the_steward_names_and_types_leave_and_nothing_else(version: DatasetVersion) -> None:
    offer = offer_of(version)
    assert [(column.name, column.type) for column in offer.columns] == [
        ("age", "int64"), ("weight", "double"), ("ward", "string"), ("note", "string"),
    ]  # fmt: skip
    assert all(column.summary is None and column.nullable for column in offer.columns)
    assert (offer.rows, offer.format, offer.owner, offer.minimum_rows) == ("100-499", "csv", "", 0)


def test_the_file_that_data_add_writes_says_just_that(site: SiteFolder, version: DatasetVersion) -> None:
    write_default(site, version)
    assert read_publication(version) == Publication()
    assert not is_pending(version)
    assert make_offer(version, read_publication(version)).offer == offer_of(version)


def test_what_was_chosen_is_told_rounded_and_without_rare_values(version: DatasetVersion) -> None:
    chosen = change(
        Publication(),
        {
            "owner": "ward north",
            "columns": {
                "age": {"publish": ["range", "quartiles"], "sensitivity": "personal"},
                "weight": {"publish": ["range", "missing"]},
                "ward": {"publish": ["categories", "missing"]},
                "note": {"hidden": True},
            },
        },
    )
    publish(version, chosen)
    offer = offer_of(version)
    told = {column.name: column for column in offer.columns}
    assert list(told) == ["age", "weight", "ward"]
    age, weight, ward = (told[name].summary for name in ("age", "weight", "ward"))
    assert age is not None
    assert age.range is not None
    assert age.quartiles is not None
    assert 15 <= age.range[0] < 30, "not the youngest"
    assert 70 < age.range[1] <= 85, "not the one of 103"
    assert weight is not None
    assert weight.missing == "25-50%"
    assert ward is not None
    assert ward.categories == ["north", "south"]
    assert ward.missing == "few"
    assert (offer.owner, offer.minimum_rows, told["age"].sensitivity) == ("ward north", 10, "personal")
    said = offer.model_dump_json(exclude={"digest"})  # in whose digits any number may turn up
    assert "isolation" not in said
    assert "103" not in said


def test_categories_that_only_rare_rows_have_are_none_and_the_steward_is_told(version: DatasetVersion) -> None:
    told = make_offer(version, change(Publication(), {"columns": {"note": {"publish": ["categories"]}}}))
    summary = next(column.summary for column in told.offer.columns if column.name == "note")
    assert summary is not None
    assert summary.categories == []
    assert "note" in told.notes[0]


def test_integers_may_be_categories(site: SiteFolder, tmp_path: Path) -> None:
    rows = [{"ill": at % 2, "stage": 4 if at == 5 else 1 + at % 3} for at in range(100)]
    version = add(site, tmp_path, rows)  # type: ignore[arg-type]
    chosen = change(Publication(), {"columns": {name: {"publish": ["categories"]} for name in ("ill", "stage")}})
    columns = make_offer(version, chosen).offer.columns
    assert [column.summary and column.summary.categories for column in columns] == [["0", "1"], ["1", "2", "3"]]


def test_a_table_of_numbers_has_ranges_too(site: SiteFolder, tmp_path: Path) -> None:
    np.save(tmp_path / "data" / "m.npy", np.arange(300, dtype=np.float64).reshape(100, 3))
    version = add_dataset(site, "m", datastore="private", pattern="m.npy", kind="npy")
    told = make_offer(version, change(Publication(), {"columns": {"column 1": {"publish": ["range"]}}})).offer
    assert told.format == "npy"
    assert told.columns[1].summary is not None
    assert told.columns[1].summary.range is not None


@pytest.mark.parametrize(
    ("changes", "code", "hint"),
    [
        ({"columns": {"agee": {"publish": ["range"]}}}, "publish-column", "did you mean 'age'?"),
        ({"columns": {"age": {"publsh": ["range"]}}}, "publish-unknown-key", "did you mean 'publish'?"),
        ({"columns": {"ward": {"publish": ["range"]}}}, "publish-summary", "categories, missing"),
        ({"columns": {"weight": {"publish": ["categories"]}}}, "publish-summary", "range, quartiles, missing"),
        ({"columns": {"age": {"as": "ward"}}}, "publish-name", "under `as`"),
        ({"columns": {"age": {"as": "/srv/x"}}}, "publish-name", "words"),
        ({"columns": {"age": {"publish": ["mean"]}}}, "publish", ""),
        ({"minimum_rows": 4}, "publish", ""),
        ({"ownr": "x"}, "publish-unknown-key", "did you mean 'owner'?"),
    ],
)
def test_what_is_not_right_is_told_and_tells_nothing(
    version: DatasetVersion, changes: dict[str, object], code: str, hint: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        publish(version, change(Publication(), changes))
    assert refused.value.code == code
    assert hint in refused.value.hint
    assert not (version.folder / "published.json").exists()


def test_a_file_that_was_edited_waits_until_it_is_published(site: SiteFolder, version: DatasetVersion) -> None:
    write_default(site, version)
    path = version.folder / "publish.yaml"
    path.write_text(path.read_text().replace("columns: {}", "columns: {age: {publish: [range]}}"))
    assert is_pending(version)
    assert offer_of(version).columns[0].summary is None
    publish(version, read_publication(version))
    assert not is_pending(version)
    assert offer_of(version).columns[0].summary is not None


def test_a_file_that_is_no_publication_is_an_error_with_its_key() -> None:
    with pytest.raises(InvalidInputError, match="not YAML"):
        parse_publication("owner: [")
    with pytest.raises(InvalidInputError) as refused:
        parse_publication("column: {}")
    assert "did you mean 'columns'?" in refused.value.hint


def test_where_it_cannot_be_read_what_was_published_the_hub_hears_of_no_column(version: DatasetVersion) -> None:
    for broken in ("{", "{}", json.dumps({"offer": {"name": 1}})):
        (version.folder / "published.json").write_text(broken)
        assert offer_of(version).columns == []


def test_the_next_version_starts_with_names_and_types_and_keeps_whose_it_is(
    site: SiteFolder, version: DatasetVersion, tmp_path: Path
) -> None:
    publish(version, change(Publication(), {"owner": "ward", "columns": {"age": {"publish": ["range"]}}}))
    after = add(site, tmp_path, patients())
    write_default(site, after)
    assert read_publication(after) == Publication(owner="ward")
    assert offer_of(after).columns[0].summary is None


def test_a_column_named_like_a_path_or_a_value_gets_a_number_until_the_steward_names_it(
    site: SiteFolder, tmp_path: Path
) -> None:
    rows = [{"/mnt/ward7/export": at, "age": at % 90, "weight": at} for at in range(50)]
    version = add(site, tmp_path, rows)  # type: ignore[arg-type]
    assert [column.name for column in offer_of(version).columns] == ["column-1", "age", "weight"]
    told = publish(version, change(Publication(), {"columns": {"/mnt/ward7/export": {"as": "case"}}}))
    assert [column.name for column in told.offer.columns] == ["case", "age", "weight"]
    assert told.withheld == ()
    assert "ward7" not in told.offer.model_dump_json()


def test_a_table_as_wide_as_they_come_is_told_by_names_and_not_by_all_its_summaries(
    site: SiteFolder, tmp_path: Path
) -> None:
    names = [f"feature number {at} of many" for at in range(4000)]
    version = add(site, tmp_path, [dict.fromkeys(names, at) for at in range(40)])
    assert len(offer_of(version).columns) == len(names)
    everything = {name: {"publish": ["range", "quartiles", "missing"]} for name in names}
    with pytest.raises(InvalidInputError) as refused:
        publish(version, change(Publication(), {"columns": everything}))
    assert refused.value.code == "publish-size"


def test_the_file_reads_back_as_what_it_says(version: DatasetVersion) -> None:
    chosen = change(Publication(), {"owner": "a: b", "columns": {"age": {"publish": ["range"], "as": "years"}}})
    publish(version, chosen)
    assert read_publication(version) == chosen
    assert "as: years" in (version.folder / "publish.yaml").read_text()
    assert default_text(version).startswith("# What the hub is told about patients@1")


def test_an_offer_of_a_site_that_knew_nothing_of_this_is_still_one() -> None:
    offer = DatasetOffer.model_validate({"name": "a", "version": 1, "digest": "d", "rows": "<100", "columns": []})
    assert offer.owner == ""
