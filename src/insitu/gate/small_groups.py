"""Finds counts of a few persons in a table that would leave: a confusion table with a group of one.

A count is a whole number that says of how many rows something is true. Nothing
in a file says which numbers are counts, so these are taken for some:

- a block of whole numbers, at least two by two;
- a number under a name such as `n`, `count`, `support`, `tp`;
- whole numbers under names that are cells of the dataset: groups of its rows;
- whole numbers under a path of such names and of numbers: groups by many columns.

Everything else (epochs, layers, scores) is none. Zero is no group.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from insitu.gate.readers.text import is_text
from insitu.gate.structures import SMALLEST_GROUP

_COUNT = re.compile(
    r"(n|num|count|counts|support|size|freq|frequency|cases|patients|persons|people|rows|samples|tp|fp|tn|fn"
    r"|n_?(samples|rows|cases|patients|obs)|(true|false)_?(positives?|negatives?)|.*_count|count_.*)",
    re.IGNORECASE,
)
IsCell = Callable[[str], bool]


def small_groups(data: bytes, is_cell: IsCell) -> int:
    """How many counts between one and `SMALLEST_GROUP` stand in a canonical CSV or JSON file.

    Args:
        is_cell: whether a word is a cell of a dataset that the job read.
    """
    if data[:1] in (b"{", b"["):
        counts = _in_json(json.loads(data), is_cell)
    elif is_text(data):
        counts = _in_csv(list(csv.reader(io.StringIO(data.decode(), newline=""))), is_cell)
    else:
        return 0
    return sum(0 < count < SMALLEST_GROUP for count in counts)


def _in_json(document: Any, is_cell: IsCell) -> Iterator[int]:
    stack: list[tuple[Any, bool]] = [(document, False)]  # whether it stands under a name that may be a cell
    while stack:
        value, grouped = stack.pop()
        if isinstance(value, dict):
            fields = cast("dict[str, Any]", value)
            for key, item in fields.items():
                cell = is_cell(key)
                number = _number(key) is not None
                if _COUNT.fullmatch(key) or cell or (number and grouped):
                    yield from _whole_of(item)
                stack.append((item, cell or number))
            yield from _in_block([row for row in fields.values() if isinstance(row, dict | list)])
        elif isinstance(value, list):
            items = cast("list[Any]", value)
            stack += [(item, grouped) for item in items]
            yield from _in_block(items)


def _whole_of(item: Any) -> Iterator[int]:
    """A number, or those of a list, as far as they are whole."""
    yield from (
        int(each) for each in (cast("list[Any]", item) if isinstance(item, list) else [item]) if _is_whole(each)
    )


def _in_block(rows: Sequence[Any]) -> Iterator[int]:
    """The numbers of a block whose rows are lists, or objects with one and the same set of keys."""
    lines = [list(cast("dict[str, Any]", row).values()) if isinstance(row, dict) else row for row in rows]
    if len(lines) < 2 or not all(isinstance(line, list) and len(cast("list[Any]", line)) > 1 for line in lines):
        return
    if len({len(line) for line in lines}) == 1 and all(
        _is_whole(cell) and cell >= 0 for line in lines for cell in line
    ):
        yield from (int(cell) for line in lines for cell in line)


def _in_csv(rows: list[list[str]], is_cell: IsCell) -> Iterator[int]:
    header, body = rows[0], rows[1:]
    columns = [[_number(cell) for cell in column] for column in zip(*body, strict=True)]
    whole = [
        bool(column) and all(cell is not None and _is_whole(cell) and cell >= 0 for cell in column)
        for column in columns
    ]
    block = sum(whole) > 1 and len(body) > 1 and sum(whole) >= len(header) - 1
    labelled = any(is_cell(row[0]) for row in body)
    for at, (name, column, is_whole) in enumerate(zip(header, columns, whole, strict=False)):
        labels = at == 0 and len(header) > 1 and len(set(column)) == len(column)
        if is_whole and (_COUNT.fullmatch(name.strip()) or ((block or labelled) and not labels)):
            yield from (int(cell) for cell in column if cell is not None)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53 and value == int(value)
