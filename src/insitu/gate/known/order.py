"""Keeps a table's cells for the index: the columns as they stand, and in order.

Blocks of rows arrive one after the other and are written down at once, so that
memory holds one of them. When the last has come, each column is put together,
sorted, and all of them are merged into one order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insitu.gate.known.files import NpyWriter, write_npy
from insitu.gate.known.sorting import ExternalSort


@dataclass
class CellsOnDisk:
    """The cells of one kind, as they came: of each block, one column after the other."""

    path: Path
    dtype: str
    width: int
    _rows: list[int] = field(default_factory=list[int])

    def __post_init__(self) -> None:
        self._out = self.path.open("wb")

    @property
    def rows(self) -> int:
        return sum(self._rows)

    def add(self, columns: list[NDArray[Any]], rows: int) -> None:
        for values in columns:
            self._out.write(np.ascontiguousarray(values, dtype=self.dtype).data)
        self._rows.append(rows)

    def column(self, number: int) -> Iterator[NDArray[Any]]:
        """One column, in pieces."""
        if not self.rows:
            return
        self.flush()
        cells = np.asarray(np.memmap(self.path, dtype=self.dtype, mode="r"))
        start = 0
        for rows in self._rows:
            yield cells[start + number * rows : start + (number + 1) * rows]
            start += rows * self.width

    def all(self) -> Iterator[NDArray[Any]]:
        for number in range(self.width):
            yield from self.column(number)

    def flush(self) -> None:
        self._out.flush()

    def close(self) -> None:
        self._out.close()
        self.path.unlink(missing_ok=True)


def write_numbers(
    cells: CellsOnDisk, folder: Path, memory_bytes: int, in_order: Callable[..., Iterator[ExternalSort]]
) -> list[int]:
    """`numbers.npy`, `order-*.npy` and `cells-*.npy`; where each column's part of the order begins, and the end.

    Args:
        in_order: works on several columns at once, see `IndexWriter.in_order`.
    """
    cells.flush()
    write_npy(folder / "numbers.npy", "<f8", (cells.rows, cells.width), cells.all())
    values, rows = NpyWriter(folder / "order-values.npy", "<f8"), NpyWriter(folder / "order-rows.npy", "<u4")
    merge = ExternalSort(folder, "cells", ("<f8", "<u4", "<u2"), memory_bytes=memory_bytes // 2)
    starts = [0]

    def prepared(number: int) -> ExternalSort:
        order = ExternalSort(folder, f"column-{number}", ("<f8", "<u4"), memory_bytes=memory_bytes // 16)
        for piece, of_rows in _with_rows(cells, number):
            finite = np.isfinite(piece)
            order.add(piece[finite], of_rows[finite])
        order.sort()
        return order

    for number, order in enumerate(in_order(prepared, range(cells.width))):
        for block in order.blocks():
            values.write(block[0])
            rows.write(block[1])
            merge.add(*block, np.full(len(block[0]), number, dtype=np.uint16))
        starts.append(values.count)
    values.close()
    rows.close()
    _write_placed(merge, folder, "cells", "<f8")
    return starts


def write_hashes(cells: CellsOnDisk, folder: Path, memory_bytes: int) -> None:
    """`text.npy`, and `words-*.npy`: all hashes in order, with row and column of each."""
    write_npy(folder / "text.npy", "<u8", (cells.rows, cells.width), cells.all())
    order = ExternalSort(folder, "words", ("<u8", "<u4", "<u2"), memory_bytes=memory_bytes)
    for number in range(cells.width):
        for piece, rows in _with_rows(cells, number):
            there = piece != 0
            order.add(piece[there], rows[there], np.full(int(there.sum()), number, dtype=np.uint16))
    _write_placed(order, folder, "words", "<u8")


def _with_rows(cells: CellsOnDisk, number: int) -> Iterator[tuple[NDArray[Any], NDArray[np.uint32]]]:
    row = 0
    for piece in cells.column(number):
        yield piece, np.arange(row, row + len(piece), dtype=np.uint32)
        row += len(piece)


def _write_placed(order: ExternalSort, folder: Path, name: str, dtype: str) -> None:
    writers = [
        NpyWriter(folder / f"{name}-{part}.npy", kind)
        for part, kind in (("values", dtype), ("rows", "<u4"), ("columns", "<u2"))
    ]
    for block in order.blocks():
        for writer, part in zip(writers, block, strict=True):
            writer.write(part)
    for writer in writers:
        writer.close()
