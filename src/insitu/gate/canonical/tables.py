"""Rewrites CSV and JSON files: the same values, in one spelling.

JSON keeps the order of its keys and loses its layout; CSV gets one quoting, one
line end, one blank between words and one spelling of each number. What is not JSON by the standard (RFC 8259), not a table with
equally long rows, or not plain UTF-8 text is not rewritten, and so does not
leave by itself.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from typing import Any

from insitu.gate.readers.numpy import NotReadableError
from insitu.gate.readers.text import is_text

_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")  # with a zero before it: a code
_FRACTION = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")
_EXACT = 1e15


def rewrite_table(data: bytes) -> tuple[str, bytes]:
    """The format ("json" or "csv") and the canonical bytes.

    Raises:
        NotReadableError: it is neither.
    """
    if not is_text(data):
        raise NotReadableError("not text")
    text = data.decode("utf-8").removeprefix("\ufeff")
    if text.lstrip()[:1] in ("{", "["):
        return "json", _json(text)
    return "csv", _csv(text)


def _json(text: str) -> bytes:
    try:
        value = json.loads(text, object_pairs_hook=_no_repeats, parse_constant=_no_constant)
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise NotReadableError("not JSON") from error


def _csv(text: str) -> bytes:
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error as error:
        raise NotReadableError("not CSV") from error
    if not rows or len({len(row) for row in rows}) != 1 or (len(rows[0]) == 1 and not _is_column(rows)):
        raise NotReadableError("not a table")
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows([_plain_cell(cell) for cell in row] for row in rows)
    return out.getvalue().encode()


def _plain_cell(cell: str) -> str:
    """One spelling of a number, without a sign, zeros and an exponent that say nothing; one blank between words."""
    cell = " ".join(cell.split())
    if _WHOLE.fullmatch(cell):
        return cell.removeprefix("+") if cell not in ("-0", "+0") else "0"
    if not _FRACTION.fullmatch(cell) or not math.isfinite(value := float(cell)):
        return cell
    return str(int(value)) if value == int(value) and abs(value) < _EXACT else repr(value)


def _is_column(rows: list[list[str]]) -> bool:
    """One field a line is a table only if it is a column of numbers: else any text would be CSV."""
    try:
        return len(rows) > 1 and all(math.isfinite(float(row[0])) for row in rows[1:])
    except ValueError:
        return False


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a repeated key")
    return fields


def _no_constant(_: str) -> Any:
    raise ValueError("NaN and Infinity are not JSON")
