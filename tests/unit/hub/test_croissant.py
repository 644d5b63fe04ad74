"""Croissant metadata, read back by MLCommons' own library."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import mlcroissant
import pytest

from insitu.hub.croissant import NOT_STATED, describe
from insitu.wire.datasets import ColumnSummary, ColumnView
from insitu.wire.people import DatasetView

HUB = "https://hub.example.org"


def a_view(**changes: object) -> DatasetView:
    fields: dict[str, object] = {
        "site": "leeds",
        "name": "wdbc",
        "version": 3,
        "digest": "sha256:" + "0" * 64,
        "rows": "500-999",
        "format": "csv",
        "description": "Breast cancer, diagnostic",
        "owner": "Leeds General",
        "licence": "CC-BY-4.0",
        "minimum_rows": 10,
        "published_at": datetime(2026, 11, 23, tzinfo=UTC),
        "columns": [
            ColumnView(name="mean radius (mm)", type="double", summary=ColumnSummary(range=(6, 28))),
            ColumnView(name="sex", type="string", sensitivity="personal", summary=ColumnSummary(categories=["f", "m"])),
            ColumnView(name="column-3", type="int64"),
        ],
    }
    return DatasetView.model_validate(fields | changes)


def read_back(told: dict[str, object], folder: Path) -> mlcroissant.Dataset:
    path = folder / "croissant.json"
    path.write_text(json.dumps(told))
    return mlcroissant.Dataset(str(path))


@pytest.mark.parametrize("changes", [{}, {"columns": []}, {"format": "npy"}, {"owner": "", "licence": ""}])
def test_the_reference_implementation_reads_it_without_a_complaint(changes, tmp_path):
    metadata = read_back(describe(a_view(**changes), hub=HUB), tmp_path).metadata
    assert metadata.ctx.issues.errors == set()
    assert metadata.ctx.is_v1_1()
    assert metadata.name == "wdbc"


def test_it_has_the_keys_that_the_specification_requires():
    told = describe(a_view(), hub=HUB)
    required = {"@context", "@type", "conformsTo", "name", "description", "license", "creator", "url", "datePublished"}
    assert required <= told.keys()
    assert told["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    assert describe(a_view(licence=""), hub=HUB)["license"] == NOT_STATED


def test_each_column_is_a_field_with_its_type_and_what_was_published_of_it(tmp_path):
    record_set = read_back(describe(a_view(), hub=HUB), tmp_path).metadata.record_sets[0]
    assert [field.name for field in record_set.fields] == ["mean radius (mm)", "sex", "column-3"]
    kinds = [str(kind).rsplit("/", 1)[1] for field in record_set.fields for kind in field.data_types or ()]
    assert kinds == ["Float", "Text", "Integer"]
    assert record_set.fields[0].description == "about 6 to 28"
    assert record_set.fields[1].description == "personal data; categories: f, m"


def test_it_has_no_example_and_no_address_but_the_hubs():
    told = describe(a_view(), hub=HUB)
    context = told.pop("@context")
    assert "examples" in context, "what the specification calls them"
    text = json.dumps(told)
    assert '"examples"' not in text
    assert '"data"' not in text
    assert '"contentUrl"' not in text
    addresses = [word for word in text.split('"') if "://" in word and not word.startswith("http://mlcommons.org/")]
    assert all(address.startswith(HUB) for address in addresses)
