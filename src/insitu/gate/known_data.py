"""What the gate knows of a dataset version: made once when it is added, never changed, never sent.

    index/
        meta.json     format, rows, columns, row count band
        key           for the hashes below; derived from the site's key for this index alone
        numbers.npy   rows × numeric columns, float64: mapped into memory, not read
        cells-*.npy   all numbers in ascending order, with row and column of each
        text.npy      rows × text columns, keyed hashes of the cells (0: empty)

Hashes are keyed because cells of a small domain (names, codes, dates) could be
guessed from plain ones (BLAKE2b's keyed mode, RFC 7693). The numbers are the
data itself, since scans need to undo scalings: the index is as private as the
dataset, and stands with it at the site.

Building reads the files twice in blocks and holds one block at a time; the
order of all numbers is made at the end, and takes 14 bytes a cell of memory.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from insitu.domain.errors import IntegrityError, InvalidInputError
from insitu.gate.known_table import Floats, KnownTable
from insitu.gate.read_numpy import NotReadableError, parse_npy_header
from insitu.gate.row_runs import KnownCells

_FORMAT = 1
_BLOCK_ROWS = 20_000
_MAX_COLUMNS = 4096
_MISSING = {"", "na", "nan", "null", "none", "?"}

ColumnType = Literal["integer", "number", "text"]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class IndexSummary:
    """What may be told of a dataset version: never a value, and the number of rows only as a band beyond the site."""

    rows: int
    columns: tuple[tuple[str, ColumnType], ...]
    row_count_band: str


def build_index(files: Sequence[Path], format: str, out_dir: Path, key: bytes) -> IndexSummary:
    """Index the rows of `files` into the empty folder `out_dir`.

    Args:
        format: "csv" (with a header line) or "npy" (a table of numbers, or named fields of numbers).
        key: the site's secret; what is stored is derived from it.

    Raises:
        InvalidInputError: a file is not what `format` says. The text names file and line and is for the site only.
    """
    if not files:
        raise InvalidInputError("a dataset needs at least one file", code="data-empty")
    readers = {"csv": _CsvFiles, "npy": _NpyFiles}
    if format not in readers:
        raise InvalidInputError(
            f"datasets of format {format[:40]!r} can't be indexed",
            code="data-format",
            hint="use csv (with a header line) or npy; a dataset that is not indexed can't be guarded",
        )
    source = readers[format](files)
    rows, columns = source.survey()
    if not rows:
        raise InvalidInputError(
            "the dataset has no rows", code="data-empty", hint="the first line of a CSV is its header"
        )
    cell_key = hashlib.blake2b(b"cells", key=key[:64], digest_size=32, person=b"insitu-index").digest()
    _write_cells(source, rows, columns, out_dir, cell_key)
    numbers = np.load(out_dir / "numbers.npy", mmap_mode="r", allow_pickle=False)
    cells = KnownCells.of(KnownTable(numbers))
    for part, values in (("values", cells.values), ("rows", cells.rows), ("columns", cells.columns)):
        np.save(out_dir / f"cells-{part}.npy", values, allow_pickle=False)
    band = row_count_band(rows)
    meta = {"format": _FORMAT, "rows": rows, "columns": columns, "row_count_band": band}
    (out_dir / "key").write_bytes(cell_key)
    (out_dir / "meta.json").write_text(json.dumps(meta))  # last: an index without it is none
    return IndexSummary(rows, tuple(columns), band)


def row_count_band(rows: int) -> str:
    """A count as people beyond the site may know it: one of two bands per power of ten."""
    if rows < 100:
        return "<100"
    power = 10 ** (len(str(rows)) - 1)
    low, high = (power, 5 * power) if rows < 5 * power else (5 * power, 10 * power)
    return f"{low}-{high - 1}"


class KnownData:
    """One dataset version's index, opened for comparing. Mapped: opening costs nothing until it is used."""

    def __init__(self, folder: Path, meta: dict[str, Any], key: bytes) -> None:
        self._folder = folder
        self._key = key
        self.rows: int = meta["rows"]
        self.columns: tuple[tuple[str, ColumnType], ...] = tuple((name, kind) for name, kind in meta["columns"])

    @staticmethod
    def open(folder: Path) -> KnownData:
        """The index in `folder`.

        Raises:
            IntegrityError: there is none, or it is not whole. Then nothing can be checked, and nothing leaves.
        """
        try:
            meta = json.loads((folder / "meta.json").read_text())
            key = (folder / "key").read_bytes()
            if meta["format"] != _FORMAT:
                raise ValueError("another format")
            known = KnownData(folder, meta, key)
            if known.numbers.shape[0] != known.rows or known.text.shape[0] != known.rows:
                raise ValueError("another number of rows")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                "the index of a dataset can't be read",
                code="index-damaged",
                hint="add the dataset again as a new version",
            ) from error
        return known

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.columns)

    @cached_property
    def numbers(self) -> Floats:
        return np.load(self._folder / "numbers.npy", mmap_mode="r", allow_pickle=False)

    @cached_property
    def text(self) -> Hashes:
        return np.load(self._folder / "text.npy", mmap_mode="r", allow_pickle=False)

    @cached_property
    def cells(self) -> KnownCells:
        values, rows, columns = (
            np.load(self._folder / f"cells-{part}.npy", mmap_mode="r", allow_pickle=False)
            for part in ("values", "rows", "columns")
        )
        return KnownCells(values, rows, columns, self.numbers.shape[1])

    @cached_property
    def table(self) -> KnownTable:
        return KnownTable(self.numbers)

    def hash_of(self, cell: str) -> int:
        return _hash(cell, self._key)


def _write_cells(
    source: _CsvFiles | _NpyFiles, rows: int, columns: list[tuple[str, ColumnType]], out_dir: Path, key: bytes
) -> None:
    numeric = [at for at, (_, kind) in enumerate(columns) if kind != "text"]
    textual = [at for at, (_, kind) in enumerate(columns) if kind == "text"]
    with (
        _mapped(out_dir / "numbers.npy", "f8", (rows, len(numeric))) as numbers,
        _mapped(out_dir / "text.npy", "u8", (rows, len(textual))) as text,
    ):
        start = 0
        for block in source.blocks():
            stop = start + len(block[0])
            for place, at in enumerate(numeric):
                numbers[start:stop, place] = _as_numbers(block[at])
            for place, at in enumerate(textual):
                text[start:stop, place] = [_hash(cell, key) for cell in block[at]]
            start = stop


@contextmanager
def _mapped(path: Path, dtype: str, shape: tuple[int, int]) -> Generator[NDArray[Any]]:
    """A file to be filled in place; a shape without cells can't be mapped and is written as it is."""
    if 0 in shape:
        np.save(path, np.empty(shape, dtype=dtype), allow_pickle=False)
        yield np.empty(shape, dtype=dtype)
        return
    mapped = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    try:
        yield mapped
        mapped.flush()
    finally:
        del mapped


def _hash(cell: str, key: bytes) -> int:
    """A cell's keyed hash, the same for spellings that differ in case or space; 0 for an empty one."""
    normal = " ".join(cell.casefold().split())
    if not normal:
        return 0
    return int.from_bytes(hashlib.blake2b(normal.encode(), key=key, digest_size=8).digest(), "little") or 1


def _as_numbers(cells: Sequence[str] | NDArray[Any]) -> Floats:
    if isinstance(cells, np.ndarray):
        return cells.astype(np.float64)
    return np.array(["nan" if cell.strip().lower() in _MISSING else cell for cell in cells], dtype=np.float64)


class _CsvFiles:
    """CSV files with one and the same header (RFC 4180; UTF-8)."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._header: list[str] = []

    def survey(self) -> tuple[int, list[tuple[str, ColumnType]]]:
        """Number of rows and type of each column: a first reading."""
        rows = 0
        kinds: list[ColumnType] = []
        for block in self.blocks():
            kinds = kinds or ["integer"] * len(block)
            rows += len(block[0])
            kinds = [_wider(kind, cells) for kind, cells in zip(kinds, block, strict=True)]
        return rows, list(zip(self._header, kinds, strict=True)) if kinds else []

    def blocks(self) -> Iterator[list[tuple[str, ...]]]:
        """Columns of the next rows."""
        for path in self._files:
            with path.open(newline="", encoding="utf-8") as stream:
                try:
                    yield from self._blocks_of(path, csv.reader(stream, strict=True))
                except UnicodeDecodeError as error:
                    raise _broken(path, 0, "it is not UTF-8") from error
                except csv.Error as error:
                    raise _broken(path, 0, f"it is not CSV: {error}") from error

    def _blocks_of(self, path: Path, lines: Any) -> Iterator[list[tuple[str, ...]]]:
        empty: list[str] = []
        header = [name.strip() for name in next(lines, empty)]
        self._check_header(path, header)
        while block := [self._checked(path, row, lines.line_num) for row in islice(lines, _BLOCK_ROWS) if row]:
            yield list(zip(*block, strict=True))

    def _check_header(self, path: Path, header: list[str]) -> None:
        if not header or any(not name for name in header) or len(set(header)) != len(header):
            raise _broken(path, 1, "its header has no names, an empty one or a repeated one")
        if len(header) > _MAX_COLUMNS:
            raise _broken(path, 1, f"it has more than {_MAX_COLUMNS} columns")
        if self._header and header != self._header:
            raise _broken(path, 1, "its header differs from that of the first file")
        self._header = header

    def _checked(self, path: Path, row: list[str], line: int) -> list[str]:
        if len(row) != len(self._header):
            raise _broken(path, line, f"it has {len(row)} fields, the header has {len(self._header)}")
        return row


def _wider(kind: ColumnType, cells: Sequence[str]) -> ColumnType:
    if kind == "text":
        return kind
    try:
        values = _as_numbers(cells)
    except ValueError:
        return "text"
    finite = values[np.isfinite(values)]
    return kind if kind == "integer" and np.array_equal(finite, np.rint(finite)) else "number"


class _NpyFiles:
    """`.npy` tables: two axes of numbers, or one of named fields of numbers."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._arrays = [self._open(path) for path in files]
        if len({(array.shape[1:], array.dtype) for array in self._arrays}) > 1:
            raise _broken(files[-1], 0, "its columns differ from those of the first file")

    @staticmethod
    def _open(path: Path) -> NDArray[Any]:
        try:
            with path.open("rb") as stream:
                header = parse_npy_header(stream.read(11_000))
            if header.dtype is None:
                raise _broken(path, 0, "it holds Python objects")
            array = cast("NDArray[Any]", np.load(path, mmap_mode="r", allow_pickle=False))
        except (NotReadableError, ValueError) as error:
            raise _broken(path, 0, "it is not an npy file of numbers") from error
        kinds = [array.dtype[name].kind for name in array.dtype.names or ()] or [array.dtype.kind]
        if not set(kinds) <= set("fiub") or array.ndim != (1 if array.dtype.names else 2):
            raise _broken(path, 0, "it is not a table of numbers")
        return array

    def survey(self) -> tuple[int, list[tuple[str, ColumnType]]]:
        first = self._arrays[0]
        rows = sum(len(array) for array in self._arrays)
        if first.dtype.names:
            return rows, [(name, _npy_kind(first.dtype[name])) for name in first.dtype.names]
        return rows, [(f"column {at}", _npy_kind(first.dtype)) for at in range(first.shape[1])]

    def blocks(self) -> Iterator[list[NDArray[Any]]]:
        for array in self._arrays:
            for start in range(0, len(array), _BLOCK_ROWS):
                part = array[start : start + _BLOCK_ROWS]
                names = array.dtype.names
                yield [part[name] for name in names] if names else [part[:, at] for at in range(part.shape[1])]


def _npy_kind(dtype: np.dtype[Any]) -> ColumnType:
    return "number" if dtype.kind == "f" else "integer"


def _broken(path: Path, line: int, why: str) -> InvalidInputError:
    where = f"{path.name}, line {line}" if line else path.name
    return InvalidInputError(
        f"{where} can't be read as a table: {why}",
        code="data-broken",
        hint="mend the file; a version is added whole or not at all",
    )
