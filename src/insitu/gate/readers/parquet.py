"""Reads parquet files: every column's values, rows as lines of text, names and statistics, and what lies between.

Format: apache/parquet-format (thrift definitions and README). The footer says
where the columns' pages are; a dictionary's values count whether or not a row
refers to them. A column that can't be decoded is unread, and its bytes are
looked at as they are.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from insitu.gate.contents import Coverage, Data, NotReadableError, Numbers, Place
from insitu.gate.effort import Effort
from insitu.gate.readers.blocks import unpack_lz4, unpack_snappy
from insitu.gate.readers.compressed import pump, unpack_zstd
from insitu.gate.readers.parquet_values import (
    BOOLEAN,
    Values,
    deltas,
    looked_up,
    plain,
    run_lengths,
    split_streams,
    with_gaps,
)
from insitu.gate.readers.thrift import Struct, read_struct

MAGIC = b"PAR1"
_MAX_FOOTER = 64 << 20
_DATA, _DICTIONARY, _DATA_2 = 0, 2, 3
_PLAIN, _OLD_DICTIONARY, _RLE, _DELTA, _NEW_DICTIONARY, _SPLIT = 0, 2, 3, 5, 8, 9
_OPTIONAL, _REPEATED = 1, 2


def _gzip(data: Data, effort: Effort) -> bytes:
    found = pump(lambda: zlib.decompressobj(wbits=47), data, effort)
    if not found.whole:
        raise NotReadableError("compressed data is damaged")
    return found.data


_CODECS: dict[int, Callable[[Data, Effort], bytes]] = {
    0: lambda data, _: bytes(data),
    1: unpack_snappy,
    2: _gzip,
    6: unpack_zstd,
    7: unpack_lz4,
}


@dataclass(frozen=True)
class Leaf:
    """A column: its type, and how many levels of optional and repeated fields it stands under."""

    type: int
    width: int
    definitions: int
    repetitions: int
    name: str = ""
    """With the names of the fields that it stands under, and dots between."""
    converted: int = -1
    """What its values mean, by the older of the format's two lists of meanings; -1 when nothing is said."""
    scale: int = 0
    """Of a decimal: digits behind the point."""


@dataclass
class _Column:
    leaf: Leaf
    pages: list[Values] = field(default_factory=list[Values])
    dictionaries: list[Values] = field(default_factory=list[Values])

    def numbers(self) -> tuple[Numbers, Numbers]:
        """The rows' numbers, and those of the dictionaries that no row refers to."""
        pages = [page for page in self.pages if not isinstance(page, list)]
        dictionaries = [values for values in self.dictionaries if not isinstance(values, list)]
        used = np.concatenate(pages) if pages else np.empty(0)
        offered = np.concatenate(dictionaries) if dictionaries else np.empty(0)
        return used, offered[~np.isin(offered, used)]

    def rows(self) -> list[str] | Numbers:
        """One value for each row."""
        if any(isinstance(page, list) for page in self.pages):
            return [cell.decode("utf-8", "replace") for page in self.pages for cell in cast("list[bytes]", page)]
        return np.concatenate([cast("Numbers", page) for page in self.pages])


@dataclass(frozen=True)
class _Page:
    header: Struct
    body: memoryview

    def part(self, number: int) -> Struct:
        return _struct(self.header.get(number))


def read_parquet(data: Data, place: Place) -> None:
    """Take the whole file.

    Raises:
        NotReadableError: its footer can't be read; nothing is then known of it.
    """
    footer, start, end = read_footer(data)
    place.add_kind("parquet")
    covered = Coverage(len(data))
    covered.add(0, 4)
    covered.add(start, end)
    covered.add(len(data) - 8, len(data))
    _read_names(footer, place)
    columns = [_Column(leaf) for leaf in leaves_of(footer)]
    for group in _list(footer.get(4)):
        for number, chunk in enumerate(_list(_struct(group).get(1))):
            if number >= len(columns):
                raise NotReadableError("parquet with more columns than its schema")
            place.effort.spend_member()
            _read_chunk(memoryview(data), _struct(chunk), columns[number], covered, place.at(f"column {number + 1}"))
    _hand_on(columns, place)
    covered.read_holes(data, place)


def read_footer(data: Data) -> tuple[Struct, int, int]:
    """A file's footer, and where it begins and ends.

    Raises:
        NotReadableError: it can't be read.
    """
    if bytes(data[-4:]) != MAGIC or bytes(data[:4]) != MAGIC:
        raise NotReadableError("parquet file that is encrypted or cut off")
    size = int.from_bytes(data[-8:-4], "little")
    start = len(data) - 8 - size
    if not start >= 4 or size > _MAX_FOOTER:
        raise NotReadableError("parquet footer is damaged")
    footer, end = read_struct(data, start)
    return footer, start, end


def row_groups(footer: Struct) -> Iterator[list[Struct]]:
    """Of each group of rows, where each column's pages are."""
    for group in _list(footer.get(4)):
        yield [_struct(chunk) for chunk in _list(_struct(group).get(1))]


def _read_names(footer: Struct, place: Place) -> None:
    """Every text and every bytes value of the footer: names, metadata, statistics, fields that nobody knows."""
    found: list[bytes] = []
    stack: list[Any] = [footer]
    while stack:
        value = stack.pop()
        if isinstance(value, bytes):
            found.append(value)
        elif isinstance(value, dict):
            stack += reversed(list(cast("Struct", value).values()))
        elif isinstance(value, list | tuple):
            stack += reversed(cast("list[Any]", value))
    place.read(b"\n".join(value for value in found if len(value) <= 64), "names", guessed=True)
    for number, value in enumerate((value for value in found if len(value) > 64), start=1):
        place.effort.spend_member()
        place.read(value, f"metadata {number}")


def leaves_of(footer: Struct) -> list[Leaf]:
    """The schema is a tree in depth-first order; its leaves are the columns."""
    leaves: list[Leaf] = []
    stack: list[list[int]] = []  # children still to come, definitions, repetitions
    names: list[str] = []
    for number, item in enumerate(_list(footer.get(2))):
        element = _struct(item)
        repetition = element.get(3, 0) if number else 0
        definitions = (stack[-1][1] if stack else 0) + (repetition in (_OPTIONAL, _REPEATED))
        repetitions = (stack[-1][2] if stack else 0) + (repetition == _REPEATED)
        if stack:
            stack[-1][0] -= 1
        children = element.get(5, 0)
        name = element.get(4, b"")
        name = name.decode("utf-8", "replace") if isinstance(name, bytes) else ""
        if children:
            stack.append([int(children), definitions, repetitions])
            names.append(name)
        elif number:
            leaves.append(_leaf(element, definitions, repetitions, ".".join([*names[1:], name])))
        while stack and stack[-1][0] <= 0:
            stack.pop()
            names.pop()
    return leaves


def _leaf(element: Struct, definitions: int, repetitions: int, name: str) -> Leaf:
    converted = element.get(6, -1)
    return Leaf(
        _int(element.get(1)),
        _int(element.get(2)),
        definitions,
        repetitions,
        name,
        converted if isinstance(converted, int) else -1,
        _int(element.get(7)),
    )


def _read_chunk(view: memoryview, chunk: Struct, column: _Column, covered: Coverage, place: Place) -> None:
    """A column's pages in one group of rows. What covers them is said also when they can't be decoded."""
    if chunk.get(1) or not _struct(chunk.get(3)):
        place.add_unread("a column that is stored elsewhere")
        return
    start, end = _span(view, chunk)
    covered.add(start, end)
    try:
        for is_dictionary, values in pages_of(view, chunk, column.leaf, place.effort):
            (column.dictionaries if is_dictionary else column.pages).append(values)
    except NotReadableError as error:
        place.add_unread(str(error))
        place.read(view[start:end], "pages", guessed=True)


def _span(view: memoryview, chunk: Struct) -> tuple[int, int]:
    meta = _struct(chunk.get(3))
    starts = [offset for offset in (_int(meta.get(11)), _int(meta.get(9))) if offset > 0]
    start = min(starts, default=0)
    end = start + _int(meta.get(7))
    if not 4 <= start <= end <= len(view):
        raise NotReadableError("parquet column lies outside of its file")
    return start, end


def pages_of(view: memoryview, chunk: Struct, leaf: Leaf, effort: Effort) -> Iterator[tuple[bool, Values]]:
    """Of a column in one group of rows each dictionary (True) and each page's values (False), in the file's order.

    Raises:
        NotReadableError: they can't be decoded; what was given before may be used.
    """
    meta = _struct(chunk.get(3))
    start, end = _span(view, chunk)
    unpack = _CODECS.get(_int(meta.get(4)))
    if unpack is None:
        raise NotReadableError("a parquet codec that is not read here")
    count = _int(meta.get(5))
    dictionary: Values | None = None
    at, seen = start, 0
    while at < end and seen < count:
        effort.spend_member()
        header, body_at = read_struct(view, at)
        at = body_at + _int(header.get(3))
        if not body_at <= at <= end:
            raise NotReadableError("parquet page is cut off")
        page = _Page(header, view[body_at:at])
        kind = _int(header.get(1))
        if kind == _DICTIONARY:
            body = unpack(page.body, effort)
            size = _int(page.part(7).get(1))
            dictionary = plain(body, leaf.type, size, leaf.width, effort)
            yield True, dictionary
        elif kind == _DATA:
            seen += _int(page.part(5).get(1))
            yield False, _first_form(page, leaf, dictionary, unpack(page.body, effort), effort)
        elif kind == _DATA_2:
            seen += _int(page.part(8).get(1))
            yield False, _second_form(page, leaf, dictionary, unpack, effort)
    if at < end:
        raise NotReadableError("parquet column with more pages than values")


def _first_form(page: _Page, leaf: Leaf, dictionary: Values | None, body: Data, effort: Effort) -> Values:
    about = page.part(5)
    count = _int(about.get(1))
    at = 0
    levels: memoryview = memoryview(b"")
    view = memoryview(body)
    for most in (leaf.repetitions, leaf.definitions):
        if most:
            size = int.from_bytes(view[at : at + 4], "little")
            levels = view[at + 4 : at + 4 + size]
            at += 4 + size
    return _placed(view[at:], levels, leaf, _int(about.get(2)), count, dictionary, effort)


def _second_form(
    page: _Page, leaf: Leaf, dictionary: Values | None, unpack: Callable[[Data, Effort], bytes], effort: Effort
) -> Values:
    about = page.part(8)
    definitions, repetitions = _int(about.get(5)), _int(about.get(6))
    rest = page.body[definitions + repetitions :]
    body = unpack(rest, effort) if about.get(7, True) and len(rest) else rest
    levels = page.body[repetitions : repetitions + definitions]
    return _placed(memoryview(body), levels, leaf, _int(about.get(4)), _int(about.get(1)), dictionary, effort)


def _placed(
    body: memoryview,
    levels: memoryview,
    leaf: Leaf,
    encoding: int,
    count: int,
    dictionary: Values | None,
    effort: Effort,
) -> Values:
    """A page's values, with gaps where a row has none."""
    if not 0 <= count <= effort.limits.values:
        raise NotReadableError("parquet page with too many values")
    if not leaf.definitions:
        return _decoded(body, leaf, encoding, count, dictionary, effort)
    found = run_lengths(levels, leaf.definitions.bit_length(), count, effort)
    present = found == leaf.definitions
    values = _decoded(body, leaf, encoding, int(np.count_nonzero(present)), dictionary, effort)
    return values if leaf.repetitions or present.all() else with_gaps(values, present)


def _decoded(
    body: memoryview, leaf: Leaf, encoding: int, count: int, dictionary: Values | None, effort: Effort
) -> Values:
    if encoding == _PLAIN:
        return plain(body, leaf.type, count, leaf.width, effort)
    if not count:
        return np.empty(0)
    if encoding in (_OLD_DICTIONARY, _NEW_DICTIONARY):
        return looked_up(dictionary, run_lengths(body[1:], body[0] if len(body) else 99, count, effort))
    if encoding == _RLE and leaf.type == BOOLEAN:
        return run_lengths(body[4:], 1, count, effort)
    if encoding == _SPLIT:
        return split_streams(body, leaf.type, count, effort)
    if encoding == _DELTA:
        return deltas(body, count, effort)
    raise NotReadableError("a parquet encoding that is not read here")


def _hand_on(columns: list[_Column], place: Place) -> None:
    """Each column as it is; then the rows: numbers as a table, and as lines of text where some columns are text."""
    for number, column in enumerate(columns, start=1):
        inner = place.at(f"column {number}")
        for values in (*column.dictionaries, *column.pages):
            if isinstance(values, list):
                place.read(b"\n".join(values), f"column {number}", guessed=True)
        numeric, unused = column.numbers()
        inner.add_numbers(numeric)
        inner.add_numbers(unused, "dictionary")
    rows = [column.rows() for column in columns if column.pages]
    if len({len(column) for column in rows}) != 1 or len(rows) < 2:  # nested: columns have no rows in common
        return
    if any(isinstance(column, list) for column in rows):
        place.contents.add_records(place.where, rows)
    numbers = [column for column in rows if not isinstance(column, list)]
    if len(numbers) > 1:
        place.add_numbers(np.column_stack(numbers), "table")


def _struct(value: Any) -> Struct:
    return cast("Struct", value) if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _int(value: Any) -> int:
    return value if isinstance(value, int) else 0
