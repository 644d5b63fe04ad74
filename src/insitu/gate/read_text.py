"""Finds the numbers in text, with the table that they stand in when there is one.

JSON is parsed (nested lists of equal length are a table, so are lists of
objects and objects of lists); anything else is read line by line as fields
between commas, tabs, semicolons, bars or spaces. All of the text is kept for
the checks that look at text itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, cast

import numpy as np

from insitu.gate.contents import Contents

NUMBER = re.compile(r"(?<![\w.])[-+]?(?:[0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})(?:[eE][-+]?[0-9]{1,3})?(?![\w])")
_MAX_DEPTH = 64
_BLOCK_LINES = 50_000


def is_text(data: bytes) -> bool:
    """Whether `data` is UTF-8 without control characters."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return not re.search(r"[\x00-\x08\x0e-\x1f]", text)


def read_text(text: str, where: str, contents: Contents) -> None:
    contents.add_text(where, text)
    if text.lstrip()[:1] in ("{", "["):
        try:
            value = json.loads(text, parse_constant=lambda _: None, parse_int=_bounded_int)
        except (ValueError, RecursionError):
            pass  # e.g. JSON lines: read as lines below
        else:
            contents.add_kind("json", where)
            read_json(value, where, contents)
            return
    _read_lines(text, where, contents)


def read_json(value: Any, where: str, contents: Contents, depth: int = 0) -> None:
    """Take the tables and lists of numbers in a parsed JSON value, outermost first."""
    contents.effort.check_time()
    if depth > _MAX_DEPTH:
        contents.add_unread(where, "JSON nested too deep")
        return
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value)
        _add_table(list(items.values()), where, contents)  # an object of lists: columns
        _add_list(list(items.values()), where, contents)
        for item in items.values():
            read_json(item, where, contents, depth + 1)
    elif isinstance(value, list):
        entries = cast("list[Any]", value)
        if not _add_table(entries, where, contents):
            _add_list(entries, where, contents)
            for item in entries:
                if isinstance(item, list | dict):
                    read_json(item, where, contents, depth + 1)


def numbers_in(line: str) -> list[float]:
    return [float(found) for found in NUMBER.findall(line)]


def _add_table(entries: list[Any], where: str, contents: Contents) -> bool:
    """A list of equal-length lists, or of objects with equal keys; True if it held nothing but numbers."""
    if len(entries) < 2 or not isinstance(entries[0], list | dict):
        return False
    rows: list[Any] = [list(cast("dict[str, Any]", e).values()) if isinstance(e, dict) else e for e in entries]
    width = len(rows[0])
    if not width or not all(isinstance(row, list) and len(cast("list[Any]", row)) == width for row in rows):
        return False
    flat = [cell for row in rows for cell in row]
    contents.add_numbers(where, np.array([_as_float(cell) for cell in flat]).reshape(len(rows), width))
    return not any(isinstance(cell, list | dict) for cell in flat)


def _add_list(entries: list[Any], where: str, contents: Contents) -> None:
    numbers = [_as_float(cell) for cell in entries if isinstance(cell, int | float | str)]
    numbers = [number for number in numbers if number == number]  # noqa: PLR0124 - not NaN
    if len(numbers) >= 3:
        contents.add_numbers(where, np.array(numbers))


def _as_float(cell: Any) -> float:
    if isinstance(cell, str) and NUMBER.fullmatch(cell.strip()):
        return float(cell)
    return float(cell) if isinstance(cell, int | float) else float("nan")


def _bounded_int(digits: str) -> float | int:
    return int(digits) if len(digits) < 300 else float("nan")  # so that every int here fits a float


def _read_lines(text: str, where: str, contents: Contents) -> None:
    """Runs of lines with equally many numbers are tables; all numbers are one stream as well."""
    lines: Iterator[str] = iter(text.splitlines())
    while block := list(islice(lines, _BLOCK_LINES)):
        contents.effort.check_time()
        rows = [numbers for line in block if (numbers := numbers_in(line))]
        run: list[list[float]] = []
        for row in [*rows, []]:
            if run and len(row) != len(run[0]):
                if len(run) > 1 and len(run[0]) > 1:
                    contents.add_numbers(where, np.array(run))
                run = []
            run.append(row)
        flat = np.array([number for row in rows for number in row])
        if len(flat) >= 3:
            contents.add_numbers(where, flat)
