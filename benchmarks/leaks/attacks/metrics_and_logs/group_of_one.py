"""A table of counts by many columns: where a group has one member, its cells are that person."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from typing import Any

from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.codec import Row
from benchmarks.leaks.let_out import LetOut

OUTPUTS = {"table": "uri_file"}
METRICS = ["count_*"]
_BY = ("town", "ward", "diagnosis", "age", "systolic", "height_cm", "weight_kg")
VARIANTS = {
    "counts as CSV": {"form": "csv"},
    "counts as nested JSON": {"form": "nested"},
    "counts as a matrix, groups in its margins": {"form": "matrix"},
    "means of groups of one": {"form": "means"},
    "counts as metric names": {"form": "metrics"},
}
_PEOPLE = 150


def leak(job: Job, *, form: str) -> None:
    places = [job.columns.index(name) for name in _BY]
    groups = Counter(tuple(row[at] for at in places) for row in job.rows[:_PEOPLE])
    if form == "metrics":
        job.metrics(
            [
                (f"count_{'_'.join(re.sub(r'[^A-Za-z0-9]', 'x', cell) for cell in group)}", count, 0)
                for group, count in groups.items()
            ]
        )
        return
    folder = job.output("table")
    if form == "csv":
        text = io.StringIO()
        csv.writer(text).writerows([[*_BY, "people"], *([*group, count] for group, count in groups.items())])
        (folder / "confusion.csv").write_text(text.getvalue())
        return
    (folder / "confusion.json").write_text(json.dumps(_document(form, groups)))


def _document(form: str, groups: Counter[tuple[str, ...]]) -> Any:
    document: dict[str, Any] = {}
    if form == "nested":
        for group, count in groups.items():
            place = document
            for cell in group[:-1]:
                place = place.setdefault(cell, {})
            place[group[-1]] = count
    elif form == "matrix":
        left, right = sorted({group[:3] for group in groups}), sorted({group[3:] for group in groups})
        counts = [[groups[(*a, *b)] for b in right] for a in left]
        document = {"rows": [" / ".join(a) for a in left], "columns": [" / ".join(b) for b in right], "counts": counts}
    else:
        for group, count in groups.items():
            document["/".join(group[:3])] = {
                name: float(cell) for name, cell in zip(_BY[3:], group[3:], strict=True)
            } | {"n": count}
    return document


def recover(let_out: LetOut, *, form: str) -> list[Row]:
    if form == "metrics":
        return [_row(metric.key.removeprefix("count_").split("_")) for metric in let_out.values_of("count_")]
    data = let_out.only_file("table").decode(errors="replace")
    if form == "csv":
        return [_row(cells[:-1]) for cells in csv.reader(io.StringIO(data)) if cells[-1:] == ["1"]]
    try:
        document = json.loads(data)
    except ValueError:
        return []
    if form == "nested":
        return [_row(cells) for cells in _paths(document, [])]
    if form == "matrix":
        found = [(a, b) for a, counts in enumerate(document["counts"]) for b, count in enumerate(counts) if count == 1]
        return [_row([*document["rows"][a].split(" / "), *document["columns"][b].split(" / ")]) for a, b in found]
    return [
        _row(key.split("/")) | {name: value for name, value in one.items() if name in _BY}
        for key, one in document.items()
    ]


def _row(cells: list[str]) -> Row:
    row: Row = dict(zip(_BY, cells, strict=False))
    for name in ("diagnosis", "height_cm", "weight_kg"):
        if name in row:
            row[name] = str(row[name]).replace("x", ".")
    return row


def _paths(node: Any, before: list[str]) -> list[list[str]]:
    if not isinstance(node, dict):
        return [before]
    return [path for key, value in node.items() for path in _paths(value, [*before, str(key)])]
