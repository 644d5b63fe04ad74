"""Finds the numbers in text, with the table that they stand in when there is one, and what is encoded in it.

JSON, JSON lines and YAML are parsed (nested lists of equal length are a table,
so are lists of objects and objects of lists); anything else is read line by
line as fields between commas, tabs, semicolons, bars or spaces. All of the text
is kept for the checks that look at text itself, and once more backwards.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, cast

import numpy as np

from insitu.gate.contents import Contents, Place
from insitu.gate.effort import Effort
from insitu.gate.readers.characters import bytes_in, is_text
from insitu.gate.readers.encoded import read_encoded, read_pieces
from insitu.gate.readers.paths import add_paths
from insitu.gate.readers.yaml import parse_yaml

NUMBER = re.compile(r"(?<![\w.])[-+]?(?:[0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})(?:[eE][-+]?[0-9]{1,3})?(?![\w])")
_HEX_FLOAT = re.compile(r"[-+]?0x[0-9a-fA-F]{1,16}\.?[0-9a-fA-F]{0,16}(?:p[-+]?[0-9]{1,4})?")
_SPACED = re.compile(r"(?<![^\s,;\"])\S([ _|~-])(?:\S\1){3,}\S(?![^\s,;\"])")  # P 4 7 7 1 0 2 3
_MAX_DEPTH = 64
_BLOCK_LINES = 50_000
_MAX_JSON_LINES = 100_000


def read_text(text: str, place: Place) -> None:
    """Take `text` as it is, as what it describes, as what it decodes to, and backwards."""
    place.add_text(text)
    value = _parsed(text, place)
    if value is not None:
        read_json(value, place)
        add_paths(value, place)
    elif not place.noise:
        _read_lines(text, place.where, place.contents)
    read_encoded(text, place)
    if (joined := _SPACED.sub(_without_gaps, text)) != text and not place.noise:
        place.read(joined.encode(errors="replace"), "letters put together", noise=True)
    backwards = replace(place.at("backwards"), noise=True)
    place.contents.add_text(backwards.where, text[::-1], guessed=True)
    if text.rstrip()[-1:] in ("{", "[") and (document := _parsed(text[::-1], backwards)) is not None:
        read_json(document, backwards)
    read_encoded(text[::-1], backwards)


def _without_gaps(run: re.Match[str]) -> str:
    return run.group()[::2]


def _parsed(text: str, place: Place) -> Any:
    """What the text describes, or None if it is just text."""
    if text.lstrip("\ufeff \t\r\n")[:1] in ("{", "["):
        try:
            value = _json(text.lstrip("\ufeff"))
        except (ValueError, RecursionError):
            value = _json_lines(text, place.effort)
        if value is not None:
            place.add_kind("json")
            return value
    value = parse_yaml(text, place.effort)
    if value is not None:
        place.add_kind("yaml")
    return value


def _json(text: str) -> Any:
    return json.loads(text, parse_constant=lambda _: None, parse_int=_bounded_int, object_pairs_hook=_with_repeats)


def _json_lines(text: str, effort: Effort) -> list[Any] | None:
    """A value on each line; None if the first line is none, or few are."""
    values: list[Any] = []
    lines = [line for line in islice(text.splitlines(), _MAX_JSON_LINES) if line.strip()]
    for number, line in enumerate(lines):
        if number % 1000 == 0:
            effort.check_time()
        try:
            values.append(_json(line))
        except (ValueError, RecursionError):
            if number == 0:
                return None
    return values if len(values) > 1 and len(values) >= len(lines) / 2 else None


def _with_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose repeated keys keep their values: a parser that takes the last one would hide the others."""
    fields = dict(pairs)
    if len(fields) == len(pairs):
        return fields
    return {f"{key}#{number}" if number else key: value for number, (key, value) in enumerate(pairs)}


def read_json(value: Any, place: Place, depth: int = 0) -> None:
    """Take the tables and lists of numbers in a parsed value, outermost first, and texts that belong together."""
    place.effort.check_time()
    if depth > _MAX_DEPTH:
        place.add_unread("JSON nested too deep")
        return
    where, contents = place.where, place.contents
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value)
        read_pieces(list(items), place)
        _read_texts(list(items.values()), place)
        _add_table(list(items.values()), where, contents)  # an object of lists: columns
        _add_list(list(items.values()), where, contents)
        for item in items.values():
            read_json(item, place, depth + 1)
    elif isinstance(value, list):
        entries = cast("list[Any]", value)
        _read_texts(entries, place)
        if not _add_table(entries, where, contents):
            _add_list(entries, where, contents)
            for item in entries:
                if isinstance(item, list | dict):
                    read_json(item, place, depth + 1)
    elif isinstance(value, str):
        _read_one_text(value, place)


def _read_texts(entries: list[Any], place: Place) -> None:
    """Strings of one list, one by one and as pieces of something larger."""
    texts = [entry for entry in entries if isinstance(entry, str)]
    for text in texts:
        _read_one_text(text, place)
    if texts:
        read_pieces(texts, place)


def _read_one_text(text: str, place: Place) -> None:
    """A string that is a document in itself, or that was escaped: the text around it does not show what it holds."""
    if data := bytes_in(text):
        place.read(data, "a string as bytes", guessed=True)
    elif "\n" in text.strip() or "\\" in text:
        place.read(text.encode(errors="replace"), "a string", guessed=True)
    if not text.isascii() or not text.isprintable():  # it was escaped, perhaps
        place.contents.add_text(place.at("a string").where, text, guessed=True)


def numbers_in(line: str) -> list[float]:
    return [float(found) for found in NUMBER.findall(line)]


def _add_table(entries: list[Any], where: str, contents: Contents) -> bool:
    """A list of equal-length lists, or of objects with equal keys; True if it held nothing but single values."""
    if len(entries) < 2 or not isinstance(entries[0], list | dict):
        return False
    rows: list[Any] = [list(cast("dict[str, Any]", e).values()) if isinstance(e, dict) else e for e in entries]
    width = len(cast("list[Any]", rows[0])) if isinstance(rows[0], list) else 0
    if not width or not all(isinstance(row, list) and len(cast("list[Any]", row)) == width for row in rows):
        return False
    flat = [cell for row in rows for cell in row]
    contents.add_numbers(where, np.array([_as_float(cell) for cell in flat]).reshape(len(rows), width))
    if any(isinstance(cell, list | dict) for cell in flat):
        return False
    texts = sum(isinstance(cell, str) and not NUMBER.fullmatch(cell.strip()) for cell in flat)
    if texts:
        contents.add_records(where, list(zip(*rows, strict=True)))
        contents.add_records(where, rows)
    return not any(isinstance(cell, str) and len(cell) > _LONG_CELL for cell in flat)


_LONG_CELL = 16  # characters: such cells may be pieces of something, and are looked at by rows as well


def _add_list(entries: list[Any], where: str, contents: Contents) -> None:
    numbers = [_as_float(cell) for cell in entries if isinstance(cell, int | float | str)]
    numbers = [number for number in numbers if number == number]  # noqa: PLR0124 - not NaN
    if len(numbers) >= 3:
        contents.add_numbers(where, np.array(numbers))


def _as_float(cell: Any) -> float:
    if isinstance(cell, str):
        stripped = cell.strip()
        if NUMBER.fullmatch(stripped):
            return float(stripped)
        return _hex_float(stripped) if _HEX_FLOAT.fullmatch(stripped) else float("nan")
    return float(cell) if isinstance(cell, int | float) else float("nan")


def _hex_float(text: str) -> float:
    try:
        return float.fromhex(text)
    except (ValueError, OverflowError):
        return float("nan")


def _bounded_int(digits: str) -> float | int:
    return int(digits) if len(digits) < 300 else float("nan")  # so that every int here fits a float


def _read_lines(text: str, where: str, contents: Contents) -> None:
    """Runs of lines with equally many numbers are tables; all numbers are one stream as well."""
    lines: Iterator[str] = iter(text.splitlines())
    spelled = _HEX_FLOAT if text.count("0x") > 2 else None
    while block := list(islice(lines, _BLOCK_LINES)):
        contents.effort.check_time()
        rows = [numbers for line in block if (numbers := numbers_in(line))]
        _add_rows(rows, where, contents)
        if spelled is not None:
            found = [[_hex_float(item) for item in spelled.findall(line)] for line in block]
            _add_rows([row for row in found if row], where, contents)


def _add_rows(rows: Sequence[list[float]], where: str, contents: Contents) -> None:
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


__all__ = ["NUMBER", "is_text", "numbers_in", "read_json", "read_text"]
