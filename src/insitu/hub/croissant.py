"""A dataset version as Croissant 1.1 (MLCommons), JSON-LD: what the hub was told of it, for catalogues and search.

Croissant describes files by address and records by example. Here are neither: the
data stay at their site, so of its files there is the format and no name, no example,
and the only address is the hub's own. `tests/unit/hub/test_croissant.py` reads it
back with MLCommons' own library.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from insitu.wire.datasets import ColumnSummary, ColumnView
from insitu.wire.people import DatasetView

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context that the specification gives, word for word: readers compare it."""

_TYPES = {"int64": "sc:Integer", "double": "sc:Float", "string": "sc:Text"}
_FORMATS = {"csv": "text/csv", "npy": "application/octet-stream", "parquet": "application/vnd.apache.parquet"}
NOT_STATED = "not stated"


def describe(dataset: DatasetView, *, hub: str) -> dict[str, Any]:
    """The metadata as one JSON-LD object.

    Args:
        hub: the hub's own address, as the caller reached it.
    """
    label = f"{dataset.name}@{dataset.version}"
    told: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": dataset.name,
        "description": _description(dataset),
        "version": f"{dataset.version}.0.0",
        "license": dataset.licence or NOT_STATED,
        "creator": {"@type": "sc:Organization", "name": dataset.owner or dataset.site},
        "url": f"{hub}/api/v1/datasets/{quote(dataset.name)}/croissant?version={dataset.version}",
        "keywords": [label, f"site {dataset.site}"],
        "isLiveDataset": False,
    }
    if dataset.published_at is not None:
        told["datePublished"] = dataset.published_at.date().isoformat()
    if dataset.columns:
        # As a job finds them; what they are called at the site is not known here.
        pattern = f"*.{dataset.format or 'csv'}"
        encoding = _FORMATS.get(dataset.format or "csv", "application/octet-stream")
        told["distribution"] = [
            {"@type": "cr:FileSet", "@id": "files", "name": "files", "encodingFormat": encoding, "includes": pattern}
        ]
        fields = [_field(number, column) for number, column in enumerate(dataset.columns, 1)]
        told["recordSet"] = [{"@type": "cr:RecordSet", "@id": "rows", "name": "rows", "field": fields}]
    return told


def _description(dataset: DatasetView) -> str:
    parts = [
        dataset.description,
        f"For: {dataset.purpose}." if dataset.purpose else "",
        f"{dataset.rows} rows, which stay at site {dataset.site}: jobs go to the data.",
        f"Each figure stands for {dataset.minimum_rows} rows or more." if dataset.minimum_rows else "",
    ]
    return " ".join(part for part in parts if part)


def _field(number: int, column: ColumnView) -> dict[str, Any]:
    # The id is a number: a name may be anything, also something that is no part of an address.
    told: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"rows/{number}",
        "name": column.name,
        "dataType": _TYPES.get(column.type, "sc:Text"),
        "source": {"fileSet": {"@id": "files"}, "extract": {"column": column.name}},
    }
    words = [f"{column.sensitivity} data" if column.sensitivity else "", *_words(column.summary)]
    if any(words):
        told["description"] = "; ".join(word for word in words if word)
    return told


def _words(summary: ColumnSummary | None) -> list[str]:
    if summary is None:
        return []
    low, high = summary.range or ("", "")
    return [
        f"about {low:g} to {high:g}" if summary.range else "",
        f"quartiles about {', '.join(f'{one:g}' for one in summary.quartiles)}" if summary.quartiles else "",
        f"categories: {', '.join(summary.categories)}" if summary.categories else "",
        f"missing: {summary.missing}" if summary.missing else "",
    ]
