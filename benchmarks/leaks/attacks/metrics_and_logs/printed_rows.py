"""A script prints the top of its table, or raises an exception that quotes a row."""

from __future__ import annotations

import logging
import re
from typing import Any

from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.codec import Row, from_text
from benchmarks.leaks.let_out import LetOut
from benchmarks.leaks.people import COLUMNS

METRICS = ["auc"]
VARIANTS = {
    "print(df.head())": {"how": "head"},
    "rows as lists": {"how": "lists"},
    "a row in an exception": {"how": "exception"},
    "a row in a chained exception": {"how": "chained"},
    "a row as an exception's type": {"how": "type"},
    "a row as a file's name in a traceback": {"how": "frame"},
    "a cell a line": {"how": "cells"},
    "a cell a line, far apart": {"how": "far"},
    "patient numbers alone": {"how": "ids"},
    "letters of rows, spaced": {"how": "spaced"},
    "rows backwards": {"how": "backwards"},
    "rows in warnings": {"how": "stderr"},
    "names and values": {"how": "pairs"},
    "a column a line": {"how": "columns"},
}
_FAR = 24  # lines between two cells


def leak(job: Job, *, how: str) -> None:
    rows = job.rows[:20]
    if how == "head":
        import pandas as pd

        pd.set_option("display.width", 1000, "display.max_columns", None)
        print(pd.DataFrame(rows, columns=job.columns).head(20))
    elif how in _FAILING:
        _fail(how, rows)
    elif how == "stderr":
        for row in rows:
            logging.getLogger("data").warning("odd row: %s", ",".join(row))
    else:
        for line in _lines(how, rows):
            print(line)


def recover(let_out: LetOut, *, how: str) -> list[Row]:
    lines, words = let_out.lines, "\n".join([*let_out.lines, *let_out.words])
    if how == "head":
        tables = [re.split(r"\s+", line.strip())[1:] for line in lines]
        # A postcode has a space of its own.
        joined = [[*cells[:8], " ".join(cells[8:10]), *cells[10:]] for cells in tables if len(cells) > len(COLUMNS)]
        return [dict(zip(COLUMNS, cells, strict=False)) for cells in joined]
    if how == "type":
        return _of_name(re.findall(r"Row_(\w+)", words))
    if how == "frame":
        return _of_name(re.findall(r"row_(\w+)\.py", words))
    if how in {"cells", "far"}:
        found = [match.groups() for line in lines if (match := re.fullmatch(r"checked (\d+)/(\w+): (.*)", line))]
        rows: dict[str, Row] = {}
        for number, column, cell in found:
            rows.setdefault(number, {})[column] = cell
        return list(rows.values())
    if how == "pairs":
        return [_named(line) for line in lines]
    if how == "columns":
        columns = dict(line.split(": ", 1) for line in lines if line.partition(": ")[0] in COLUMNS)
        cells = [text.split("; ") for text in columns.values()]
        return [dict(zip(columns, row, strict=True)) for row in zip(*cells, strict=False)]
    if how == "ids":
        return [{"patient": match} for match in re.findall(r"P-\d{7}", words)]
    if how == "spaced":
        return from_text("\n".join(line.replace(" ", "").replace("_", " ") for line in lines))
    if how == "backwards":
        return from_text("\n".join(line[::-1] for line in lines))
    if how == "lists":
        return from_text("\n".join(line.strip("[]").replace("'", "").replace(", ", ",") for line in lines))
    return from_text("\n".join(re.sub(r".*(?=P-\d{7},)", "", line) for line in words.splitlines()))


def _named(line: str) -> Row:
    found: Row = {}
    for pair in line.split(", "):
        name, _, found[name] = pair.partition(" = ")
    return found


_FAILING = {"exception", "chained", "type", "frame"}


def _fail(how: str, rows: list[list[str]]) -> None:
    text = ",".join(rows[1])
    name = "_".join(re.sub(r"[^A-Za-z0-9]", "z", cell) for cell in rows[1][:9])
    if how == "exception":
        raise ValueError(f"cannot convert row: {text}")
    if how == "type":
        raise type(f"Row_{name}", (Exception,), {})
    if how == "frame":
        space: dict[str, Any] = {}
        exec(compile("def check():\n    raise ValueError\n", f"/job/code/row_{name}.py", "exec"), space)
        space["check"]()
    try:
        raise KeyError(text)
    except KeyError as error:
        raise RuntimeError("\n".join(",".join(row) for row in rows)) from error


def _of_name(names: list[str]) -> list[Row]:
    return [
        {
            column: re.sub("^Pz", "P-", cell) if column == "patient" else cell.replace("z", "-")
            for column, cell in zip(COLUMNS, name.split("_"), strict=False)
        }
        for name in names
    ]


def _lines(how: str, rows: list[list[str]]) -> list[str]:
    if how == "lists":
        return [str(row) for row in rows]
    if how == "ids":
        return [f"processed {row[0]} without errors" for row in rows]
    if how == "spaced":
        return [" ".join(",".join(row).replace(" ", "_")) for row in rows]
    if how == "backwards":
        return [",".join(row)[::-1] for row in rows]
    cells = [
        f"checked {number}/{column}: {cell}"
        for number, row in enumerate(rows[:6])
        for column, cell in zip(COLUMNS, row, strict=True)
    ]
    if how == "cells":
        return cells
    if how == "pairs":
        return [", ".join(f"{name} = {cell}" for name, cell in zip(COLUMNS, row, strict=True)) for row in rows]
    if how == "columns":
        return [f"{name}: {'; '.join(cells)}" for name, cells in zip(COLUMNS, zip(*rows, strict=True), strict=True)]
    return [line for at, cell in enumerate(cells) for line in [cell, *(f"batch {at}.{n}: ok" for n in range(_FAR))]]
