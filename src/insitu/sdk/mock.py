"""Mock data: a made-up table with a dataset's columns, from what its steward published and nothing else.

Types are those of the catalogue. Ranges, quartiles, categories and shares of missing
values are followed where they were published; where they were not, a number lies
between 0 and 1, an integer is 0 or 1, and text is one of five words. Columns know
nothing of each other, so a model of mock data has learned nothing.

The same seed makes the same table, on each machine: only the standard library's
generator is used, and of it only `random()`, which is promised to stay as it is.
"""

from __future__ import annotations

import csv
import io
import math
import random
import re
import struct
from collections.abc import Callable, Mapping, Sequence

from insitu.domain.errors import InvalidInputError, UnavailableError
from insitu.wire.datasets import ColumnSummary, ColumnView
from insitu.wire.people import DatasetView

Value = int | float | str | None
Table = dict[str, list[Value]]

MOST_ROWS = 1_000_000
_FEWEST, _USUAL = 50, 1000
_WORDS = ("alpha", "beta", "gamma", "delta", "epsilon")
_MISSING: Mapping[str, float] = {"5-25%": 0.15, "25-50%": 0.375, "50-75%": 0.625, "75-95%": 0.85, "most": 0.97}
_NOTHING = ColumnSummary()


def usual_rows(dataset: DatasetView) -> int:
    """About as many rows as the dataset has, and no more than a job on a desk needs."""
    first = re.match(r"\d+", dataset.rows)
    return min(_USUAL, int(first[0])) if first else _FEWEST


def mock_table(dataset: DatasetView, *, rows: int | None = None, seed: int = 0) -> Table:
    """Column → values, None where one is missing.

    Raises:
        InvalidInputError: no column of the dataset is known, or the number of rows is none.
    """
    count = usual_rows(dataset) if rows is None else rows
    if not 1 <= count <= MOST_ROWS:
        raise InvalidInputError(f"{count} rows can't be made", code="mock-rows", limit=f"1 to {MOST_ROWS}")
    if not dataset.columns:
        raise InvalidInputError(
            f"nothing is known of the columns of {dataset.name}@{dataset.version}",
            code="mock-no-columns",
            why=f"it has none, as {dataset.format or 'its format'} goes, or its steward publishes none",
            hint="rehearse with files of your own: `insitu run --rehearse JOB.yaml --data INPUT=FILE`",
        )
    return {
        column.name: _column(column, count, f"{seed}/{dataset.name}/{dataset.version}/{column.name}")
        for column in dataset.columns
    }


def _column(column: ColumnView, rows: int, seed: str) -> list[Value]:
    # A column of its own stream: one that is hidden or added later changes no other.
    chance = random.Random(seed).random  # noqa: S311 - a made-up table, not a secret
    summary = column.summary or _NOTHING
    value = _MAKERS.get(column.type, _text)(summary, chance)
    missing = _MISSING.get(summary.missing or "", 0.0) if column.nullable else 0.0
    return [None if missing and chance() < missing else value() for _ in range(rows)]


Chance = Callable[[], float]


def _integer(told: ColumnSummary, chance: Chance) -> Callable[[], Value]:
    if told.categories:
        choices = [int(word) for word in told.categories]
        return lambda: _one_of(choices, chance)
    ends = _ends(told)
    if ends is None:
        return lambda: _one_of((0, 1), chance)
    real = _between(told, ends, chance)
    return lambda: math.floor(real() + 0.5)


def _number(told: ColumnSummary, chance: Chance) -> Callable[[], Value]:
    ends = _ends(told)
    if ends is None:
        return lambda: round(chance(), 6)
    real, digits = _between(told, ends, chance), _digits(ends)
    return lambda: round(real(), digits)


def _text(told: ColumnSummary, chance: Chance) -> Callable[[], Value]:
    return lambda: _one_of(told.categories or _WORDS, chance)


_MAKERS = {"int64": _integer, "double": _number, "string": _text}


def _one_of(choices: Sequence[Value], chance: Chance) -> Value:
    return choices[int(chance() * len(choices))]


def _ends(told: ColumnSummary) -> tuple[float, float] | None:
    if told.range is not None:
        return told.range
    return (told.quartiles[0], told.quartiles[2]) if told.quartiles else None


def _between(told: ColumnSummary, ends: tuple[float, float], chance: Chance) -> Callable[[], float]:
    """A quarter of the values in each quarter of the column, as far as it was published."""
    marks = [ends[0], *(told.quartiles or ()), ends[1]] if told.range else [*ends]
    steps = len(marks) - 1

    def value() -> float:
        place = chance() * steps
        at = min(int(place), steps - 1)
        return marks[at] + (place - at) * (marks[at + 1] - marks[at])

    return value


def _digits(ends: tuple[float, float]) -> int:
    span = abs(ends[1] - ends[0]) or abs(ends[0]) or 1.0
    return max(0, 5 - math.floor(math.log10(span)))


# -- as files ----------------------------------------------------------------------------------------------------------


def as_bytes(table: Table, types: Mapping[str, str], format_: str) -> bytes:
    """The table as a file of a dataset's format.

    Args:
        types: column → Arrow's name.
        format_: csv, npy or parquet; empty is csv.

    Raises:
        InvalidInputError: there are no mock data of that format.
        UnavailableError: parquet needs pyarrow, which is not installed.
    """
    match format_:
        case "" | "csv":
            return _csv(table)
        case "npy":
            return _npy(table, types)
        case "parquet":
            return _parquet(table)
        case _:
            raise InvalidInputError(
                f"there are no mock data of format {format_}",
                code="mock-format",
                limit="csv, npy, parquet",
                hint="rehearse with files of your own: `insitu run --rehearse JOB.yaml --data INPUT=FILE`",
            )


def _csv(table: Table) -> bytes:
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    return made.getvalue().encode()


def _npy(table: Table, types: Mapping[str, str]) -> bytes:
    """NumPy's format, version 2.0 or, for names beyond ASCII, 3.0: one array, or one of records where columns have names (NEP 1)."""
    names = list(table)
    texts = [name for name in names if types.get(name) not in ("int64", "double")]
    if texts:
        raise InvalidInputError(
            f"column {texts[0]!r} is text, which an npy file of mock data does not hold",
            code="mock-format",
            hint="take --format csv",
        )
    whole = [types.get(name) == "int64" for name in names]
    rows = len(next(iter(table.values())))
    kinds = ["<i8" if one else "<f8" for one in whole]
    plain = all(re.fullmatch(r"column \d+", name) for name in names)
    if plain and len(set(kinds)) == 1:
        described, shape = repr(kinds[0]), f"({rows}, {len(names)})"
    else:
        described, shape = repr(list(zip(names, kinds, strict=True))), f"({rows},)"
    header = f"{{'descr': {described}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(12 + len(header) + 1) % 64) + b"\n"
    record = struct.Struct("<" + "".join("q" if one else "d" for one in whole))
    columns = [[_as_number(value, whole=one) for value in table[name]] for name, one in zip(names, whole, strict=True)]
    body = b"".join(record.pack(*row) for row in zip(*columns, strict=True))
    version = 2 if header.isascii() else 3
    return b"\x93NUMPY" + bytes((version, 0)) + struct.pack("<I", len(header)) + header + body


def _as_number(value: Value, *, whole: bool) -> int | float:
    if value is None:
        return 0 if whole else math.nan
    return int(value) if whole else float(value)


def _parquet(table: Table) -> bytes:
    try:
        import pyarrow as pa  # noqa: PLC0415 - large, and only this needs it
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as exc:
        raise UnavailableError(
            "mock data in parquet need pyarrow", code="no-pyarrow", hint="pip install pyarrow, or `--format csv`"
        ) from exc
    made = io.BytesIO()
    parquet.write_table(pa.table(table), made)
    return made.getvalue()
