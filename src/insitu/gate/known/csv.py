"""Reads CSV files for the index, in blocks of whole rows (RFC 4180; UTF-8; one and the same header in all).

Most files are plain: then separators are found, numbers read and cells hashed
for a whole block at a time. A block that is not plain (a quote in the middle of
a cell, a blank line, a row of another width) is read again by Python's own `csv`,
which also says what is wrong with it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from insitu.domain.errors import InvalidInputError
from insitu.gate.known.cells import PADDING, cell_text, hash_cell, hash_cells
from insitu.gate.known.decimals import Floats, decimals
from insitu.gate.known.files import DataFile
from insitu.gate.known.fingerprints import Bytes, HashKey, Words

MAX_COLUMNS = 4096
Places = NDArray[np.int64]

_MISSING = {"", "na", "nan", "null", "none", "?"}
_COMMA, _LINE, _QUOTE, _DOT, _BLANK = 44, 10, 34, 46, 32
_LOWER = bytes(code + 32 if 65 <= code <= 90 else code for code in range(256))
# Bytes that make a cell's normal form differ from its lower case: such cells are looked at one by one.
_ODD = np.array([code < 32 or code >= 127 or code == _QUOTE for code in range(256)])
_ODD[_LINE] = False
_BLANK_OR_EDGE = np.isin(np.arange(256), (_BLANK, _COMMA, _LINE))


class Block(Protocol):
    """Some rows of a table, by columns."""

    @property
    def rows(self) -> int: ...

    def numbers(self, column: int) -> Floats:
        """Its values; NaN for missing ones.

        Raises:
            ValueError: they are not numbers.
        """
        ...

    def hashes(self, column: int, key: HashKey) -> Words: ...


class CsvFiles:
    """A dataset in CSV files. `text` of a block is what it holds, for whoever wants fingerprints of it."""

    def __init__(self, files: Sequence[DataFile], *, block_bytes: int) -> None:
        self._files = files
        self._block_bytes = block_bytes
        self.header: list[str] = []

    def blocks(self) -> Iterator[tuple[Callable[[], Block], bytes]]:
        """What reads the next rows (several may be asked at once), and the bytes that they stand in."""
        for path in self._files:
            yield from _OneFile(path, self._block_bytes, self).blocks()

    def take_header(self, path: DataFile, header: list[str]) -> None:
        if not header or any(not name for name in header) or len(set(header)) != len(header):
            raise broken(path, 1, "its header has no names, an empty one or a repeated one")
        if len(header) > MAX_COLUMNS:
            raise broken(path, 1, f"it has more than {MAX_COLUMNS} columns")
        if self.header and header != self.header:
            raise broken(path, 1, "its header differs from that of the first file")
        self.header = header


class _OneFile:
    def __init__(self, path: DataFile, block_bytes: int, owner: CsvFiles) -> None:
        self._path, self._block_bytes, self._owner = path, block_bytes, owner
        self._lines = 0  # read so far

    def blocks(self) -> Iterator[tuple[Callable[[], Block], bytes]]:
        for number, data in enumerate(self._whole_rows()):
            if not data.isascii():
                self._check_utf8(data)
            rest = self._without_header(data) if number == 0 else data
            if rest:
                yield partial(self._block, rest, self._lines), rest
            self._lines += rest.count(b"\n")

    def _whole_rows(self) -> Iterator[bytes]:
        """The file in pieces that end with a row: at the last line's end outside of quotes."""
        kept = b""
        first = True
        with self._path.open("rb") as stream:
            while more := stream.read(self._block_bytes):
                data = (kept + more).replace(b"\r\n", b"\n") if b"\r" in more or b"\r" in kept else kept + more
                end = _last_row_end(data)
                if end:
                    yield data[:end]
                    first = False
                kept = data[end:]
        if kept or first:
            yield kept if kept.endswith(b"\n") or not kept else kept + b"\n"

    def _check_utf8(self, data: bytes) -> None:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise broken(self._path, 0, "it is not UTF-8") from error

    def _without_header(self, data: bytes) -> bytes:
        data = data.removeprefix(b"\xef\xbb\xbf")
        end = data.find(b"\n") + 1
        while end and data.count(b'"', 0, end) % 2:  # a name with a line's end in it
            end = data.find(b"\n", end) + 1
        head = data[:end] if end else data
        empty: list[str] = []
        found = next(self._read(head), empty)
        self._owner.take_header(self._path, [name.strip() for name in found])
        self._lines += head.count(b"\n")
        return data[len(head) :]

    def _block(self, data: bytes, lines: int) -> Block:
        plain = _PlainBlock.of(data, len(self._owner.header))
        return plain if plain is not None else self._odd_block(data, lines)

    def _odd_block(self, data: bytes, lines: int) -> Block:
        rows: list[list[str]] = []
        reader = self._read(data)
        width = len(self._owner.header)
        for row in reader:
            if row and len(row) != width:
                line = lines + reader.line_num
                raise broken(self._path, line, f"it has {len(row)} fields, the header has {width}")
            if row:
                rows.append(row)
        return _ListBlock([list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)])

    def _read(self, data: bytes) -> _Reader:
        return _Reader(self._path, data)


class _Reader:
    """Python's own reader, with our errors."""

    def __init__(self, path: DataFile, data: bytes) -> None:
        self._path = path
        self._rows = csv.reader(io.StringIO(data.decode("utf-8"), newline=""), strict=True)

    def __iter__(self) -> _Reader:
        return self

    def __next__(self) -> list[str]:
        try:
            return next(self._rows)
        except csv.Error as error:
            raise broken(self._path, 0, f"it is not CSV: {error}") from error

    @property
    def line_num(self) -> int:
        return self._rows.line_num


def _last_row_end(data: bytes) -> int:
    end = data.rfind(b"\n") + 1
    while end and data.count(b'"', 0, end) % 2:
        end = data.rfind(b"\n", 0, end - 1) + 1
    return end


class _ListBlock:
    """Rows that Python's reader has read."""

    def __init__(self, columns: list[list[str]]) -> None:
        self._columns = columns

    @property
    def rows(self) -> int:
        return len(self._columns[0])

    def numbers(self, column: int) -> Floats:
        return np.array([_as_number(cell) for cell in self._columns[column]], dtype=np.float64)

    def hashes(self, column: int, key: HashKey) -> Words:
        return np.array([hash_cell(key, cell) for cell in self._columns[column]], dtype=np.uint64)


def lines_block(data: bytes) -> Block:
    """Lines (ASCII or UTF-8, each with its end), as a table of one column."""
    padded = np.frombuffer(b"\n" * PADDING + data + b"\n" * PADDING, dtype=np.uint8)
    ends = np.flatnonzero(padded[PADDING : PADDING + len(data)] == _LINE) + PADDING
    starts = np.concatenate(([PADDING], ends[:-1] + 1))
    return _PlainBlock(padded, starts, ends[None], ends[None], quoted=False)


class _PlainBlock:
    """Rows whose separators are known by their places."""

    def __init__(self, data: Bytes, starts: Places, dots: Places, ends: Places, *, quoted: bool = True) -> None:
        self._data = data
        self._quoted = quoted  # quotes around a cell are no part of it
        self._row_starts = starts
        self._dots, self._ends = dots, ends  # columns × rows

    @cached_property
    def _lower(self) -> Bytes:
        return np.frombuffer(self._data.tobytes().translate(_LOWER), dtype=np.uint8)

    @cached_property
    def _odd(self) -> Places:
        return _odd_cells(self._data, self._ends.T)

    @property
    def rows(self) -> int:
        return self._ends.shape[1]

    @staticmethod
    def of(data: bytes, width: int) -> _PlainBlock | None:
        """The block in `data`, if it is plain enough."""
        if b"\n\n" in data or data[:1] == b"\n" or b"\r" in data:
            return None
        padded = np.frombuffer(b"\n" * PADDING + data + b"\n" * PADDING, dtype=np.uint8)
        body = padded[PADDING : PADDING + len(data)]
        special = (body == _COMMA) | (body == _LINE) | (body == _DOT)
        if b'"' in data:
            outside = _outside_quotes(body)
            if outside is None:
                return None
            special &= outside
        marks = np.flatnonzero(special) + PADDING
        kinds = padded[marks]
        which = np.flatnonzero(kinds != _DOT)
        if len(which) % width:
            return None
        which = np.ascontiguousarray(which.reshape(-1, width).T)
        line_ends = kinds.take(which) == _LINE
        if not line_ends[-1].all() or line_ends[:-1].any():
            return None
        ends = marks.take(which)
        which -= 1  # of the very first cell, if nothing stands before its end: the last mark, which is no point
        dots = np.where(kinds.take(which, mode="wrap") == _DOT, marks.take(which, mode="wrap"), ends)
        return _PlainBlock(padded, np.concatenate(([PADDING], ends[-1, :-1] + 1)), dots, ends)

    def _starts(self, column: int) -> Places:
        return self._ends[column - 1] + 1 if column else self._row_starts

    def numbers(self, column: int) -> Floats:
        starts, ends = self._starts(column), self._ends[column]
        values, bad = decimals(self._data, starts, self._dots[column], ends)
        for at in np.flatnonzero(bad).tolist():
            values[at] = _as_number(cell_text(self._data, int(starts[at]), int(ends[at])))
        return values

    def hashes(self, column: int, key: HashKey) -> Words:
        starts, ends = self._starts(column), self._ends[column]
        width = len(self._ends)
        odd = [at // width for at in self._odd.tolist() if at % width == column]
        return hash_cells(key, self._lower, starts, ends, odd, quoted=self._quoted)


def _outside_quotes(body: Bytes) -> NDArray[np.bool_] | None:
    """Which bytes stand outside of quotes; None if quotes stand where RFC 4180 has none."""
    quotes = body == _QUOTE
    inside = np.cumsum(quotes, dtype=np.uint32) & 1 == 1
    at = np.flatnonzero(quotes)
    opens = inside[at]
    before = np.concatenate(([_LINE], body))[at]
    behind = np.concatenate((body, [_LINE]))[at + 1]
    edges = (_COMMA, _LINE, _QUOTE)
    fits = np.where(opens, np.isin(before, edges), np.isin(behind, edges))
    return None if not fits.all() or (len(body) and inside[-1]) else ~inside


def _odd_cells(data: Bytes, ends: Places) -> Places:
    """Cells (counted along the rows) that hold something that the quick way would not hash right."""
    raw = data[PADDING:-PADDING]
    odd = np.flatnonzero(_ODD[raw]) if _any_odd(raw, rows=len(ends)) else np.empty(0, dtype=np.int64)
    blanks = np.flatnonzero(raw == _BLANK) + PADDING
    at_edge = _BLANK_OR_EDGE[data[blanks - 1]] | _BLANK_OR_EDGE[data[blanks + 1]]
    places = np.concatenate((odd + PADDING, blanks[at_edge]))
    return np.unique(np.searchsorted(ends.reshape(-1), places))


def _any_odd(raw: Bytes, *, rows: int) -> bool:
    """Whether any byte is odd, which is rare and quicker to say than where: of control codes, only lines' ends are not."""
    return bool(raw.max(initial=0) >= 127 or np.count_nonzero(raw < 32) > rows or (raw == _QUOTE).any())


def _as_number(cell: str) -> float:
    cell = cell.strip().lower()
    return float("nan") if cell in _MISSING else float(cell)


def broken(path: DataFile, line: int, why: str) -> InvalidInputError:
    where = f"{path.name}, line {line}" if line else path.name
    return InvalidInputError(
        f"{where} can't be read as a table: {why}",
        code="data-broken",
        hint="mend the file; a version is added whole or not at all",
    )
