"""What the gate knows of a dataset version: made once when it is added, never changed, never sent.

    index/
        meta.json            format, rows, columns, row count band
        key                  for the hashes below; derived from the site's key for this index alone
        numbers.npy          rows × numeric columns, float64, column after column: mapped into memory, not read
        order-*.npy          each column's numbers in ascending order, with the row of each
        cells-*.npy          all numbers in ascending order, with row and column of each
        text.npy             rows × text columns, keyed hashes of the cells (0: empty)
        words-*.npy          all of those in ascending order, with row and column of each
        text-, bytes-, runs-*.npy   fingerprints of text, of bytes as they are, and of runs of numbers

Hashes are keyed because cells of a small domain (names, codes, dates) could be
guessed from plain ones. The numbers are the data itself, since scans need to undo
scalings: the index is as private as the dataset, and stands with it at the site.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from insitu.domain.errors import IntegrityError, InvalidInputError
from insitu.gate.known.cells import hash_cell
from insitu.gate.known.files import DataFile, load_npy
from insitu.gate.known.fingerprints import FingerprintSet
from insitu.gate.known.keys import SETS, IndexKeys, key_of_index
from insitu.gate.known.table import Floats, KnownTable
from insitu.gate.rows.runs import KnownCells

_FORMAT = 2
_MEMORY_BYTES = 256 << 20

ColumnType = Literal["integer", "number", "text"]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class IndexSummary:
    """What may be told of a dataset version: never a value, and the number of rows only as a band beyond the site."""

    rows: int
    columns: tuple[tuple[str, ColumnType], ...]
    row_count_band: str


def build_index(
    files: Sequence[DataFile], format: str, out_dir: Path, key: bytes, *, memory_bytes: int = _MEMORY_BYTES
) -> IndexSummary:
    """Index the rows of `files` into the empty folder `out_dir`.

    Args:
        format: csv, parquet, npy, text, files or images; see `known/sources.py`.
        key: the site's secret; what is stored is derived from it.
        memory_bytes: about how much memory it may take; the result does not depend on it.

    Raises:
        InvalidInputError: a file is not what `format` says. The text names file and line and is for the site only.
    """
    if not files:
        raise InvalidInputError("a dataset needs at least one file", code="data-empty")
    # Here, since the judge opens an index in each judgement and never makes one.
    from insitu.gate.known.build import IndexWriter  # noqa: PLC0415
    from insitu.gate.known.sources import source_of  # noqa: PLC0415

    fill = source_of(format)
    index_key = key_of_index(key)
    rows, columns, starts = fill(files, IndexWriter(out_dir, index_key, memory_bytes))
    band = row_count_band(rows)
    meta = {"format": _FORMAT, "rows": rows, "columns": columns, "row_count_band": band, "order": starts}
    (out_dir / "key").write_bytes(index_key)
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
        self._order: list[int] = meta["order"]
        self.keys = IndexKeys.of(key)
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
            if not all((folder / f"{name}-filter.npy").exists() for name in SETS):
                raise ValueError("no fingerprints")
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
        return self._load("numbers")

    @cached_property
    def text(self) -> Hashes:
        return self._load("text")

    @cached_property
    def cells(self) -> KnownCells:
        placed = self._placed("cells") if self.numbers.shape[1] else (np.empty(0), *_NOWHERE)
        return KnownCells(*placed, self.numbers.shape[1])

    @cached_property
    def words(self) -> tuple[Hashes, NDArray[np.uint32], NDArray[np.uint16]]:
        """All hashes of text cells in ascending order, with the row of each and its place among the text columns."""
        return self._placed("words") if self.text.shape[1] else (self.text[:0].reshape(-1), *_NOWHERE)

    @cached_property
    def table(self) -> KnownTable:
        if not self.numbers.shape[1]:
            return KnownTable(self.numbers)
        values, rows = self._load("order-values"), self._load("order-rows")
        spans = [slice(start, stop) for start, stop in pairwise(self._order)]
        return KnownTable(self.numbers, [(values[span], rows[span]) for span in spans])

    @cached_property
    def text_prints(self) -> FingerprintSet:
        return FingerprintSet.open(self._folder, "text")

    @cached_property
    def byte_prints(self) -> FingerprintSet:
        return FingerprintSet.open(self._folder, "bytes")

    @cached_property
    def run_prints(self) -> FingerprintSet:
        return FingerprintSet.open(self._folder, "runs")

    def hash_of(self, cell: str) -> int:
        return hash_cell(self.keys.cells, cell)

    def _load(self, part: str) -> NDArray[Any]:
        return load_npy(self._folder / f"{part}.npy")

    def _placed(self, name: str) -> tuple[NDArray[Any], NDArray[np.uint32], NDArray[np.uint16]]:
        return self._load(f"{name}-values"), self._load(f"{name}-rows"), self._load(f"{name}-columns")


_NOWHERE = (np.empty(0, dtype=np.uint32), np.empty(0, dtype=np.uint16))
