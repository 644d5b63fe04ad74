"""Keeps a table's cells for the index: the columns as they stand, and in order.

Blocks of rows arrive one after the other. What exceeds a bound is written down at
once, so that memory holds a part of them only. When the last has come, each column
is sorted, and all of them are merged into one order, a range of values at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from insitu.gate.known.files import NpyWriter, load_npy, write_npy
from insitu.gate.known.sorting import ExternalSort, order_of

InOrder = Callable[..., Iterator[Any]]
"""Works on several things at once, and gives back what is made of them in their order."""

Spans = list[tuple[int, int]]
"""Of each column, which places: from, to."""

_RANGE_MOST = 1 << 18
_RANGE_LEAST = 1 << 15
"""Cells that are merged at a time: few enough for the processor's cache, so many that each column has some."""
_CELL_BYTES = 14  # value, row, column


@dataclass
class CellsAside:
    """The cells of one kind, as they came: of each block, one column after the other. The first ones in memory."""

    path: Path
    dtype: str
    width: int
    memory_bytes: int
    _rows: list[int] = field(default_factory=list[int])
    _kept: list[list[NDArray[Any]]] = field(default_factory=list[list[NDArray[Any]]])

    def __post_init__(self) -> None:
        self._out = self.path.open("wb")
        self._left = self.memory_bytes

    @property
    def rows(self) -> int:
        return sum(self._rows)

    def add(self, columns: list[NDArray[Any]], rows: int) -> None:
        self._left -= sum(values.nbytes for values in columns)
        if self._left >= 0:
            self._kept.append([np.ascontiguousarray(values, dtype=self.dtype) for values in columns])
        else:
            self._left = 0  # from here on all goes to disk
            for values in columns:
                self._out.write(np.ascontiguousarray(values, dtype=self.dtype).data)
        self._rows.append(rows)

    def column(self, number: int) -> Iterator[NDArray[Any]]:
        """One column, in pieces."""
        yield from (columns[number] for columns in self._kept)
        if len(self._kept) == len(self._rows):
            return
        self._out.flush()
        cells = np.asarray(np.memmap(self.path, dtype=self.dtype, mode="r"))
        start = 0
        for rows in self._rows[len(self._kept) :]:
            yield cells[start + number * rows : start + (number + 1) * rows]
            start += rows * self.width

    def all(self) -> Iterator[NDArray[Any]]:
        for number in range(self.width):
            yield from self.column(number)

    def close(self) -> None:
        self._kept = []
        self._out.close()
        self.path.unlink(missing_ok=True)


def write_numbers(cells: CellsAside, folder: Path, memory_bytes: int, in_order: InOrder) -> list[int]:
    """`numbers.npy`, `order-*.npy` and `cells-*.npy`; where each column's part of the order begins, and the end.

    Args:
        in_order: see `IndexWriter.in_order`.
    """
    write_npy(folder / "numbers.npy", "<f8", (cells.rows, cells.width), cells.all())
    values, rows = NpyWriter(folder / "order-values.npy", "<f8"), NpyWriter(folder / "order-rows.npy", "<u4")
    starts = [0]

    def prepared(number: int) -> ExternalSort:
        order = ExternalSort(folder, f"column-{number}", ("<f8", "<u4"), memory_bytes=memory_bytes // 16)
        for piece, of_rows in _with_rows(cells, number):
            finite = np.isfinite(piece)
            order.add(piece[finite], of_rows[finite])
        order.sort()
        return order

    for order in in_order(prepared, range(cells.width)):
        for block in order.blocks():
            values.write(block[0])
            rows.write(block[1])
        starts.append(values.count)
    values.close()
    rows.close()
    merge = _Merge(load_npy(folder / "order-values.npy"), load_npy(folder / "order-rows.npy"), starts)
    most = max(_RANGE_LEAST, min(_RANGE_MOST, memory_bytes // (16 * _CELL_BYTES)))
    _write_placed(in_order(merge.merged, merge.ranges(most)), folder, "cells", "<f8")
    return starts


class _Merge:
    """Columns in order, to be merged: each range of values by itself, since the places of its ends are soon found."""

    def __init__(self, values: NDArray[Any], rows: NDArray[Any], starts: Sequence[int]) -> None:
        self._values, self._rows = values, rows
        self._spans = list(pairwise(starts))

    def ranges(self, most: int) -> Iterator[Spans]:
        """Of each column the places of a range: ascending, no value in two of them, about `most` places in all."""
        borders = self._borders(most)
        starts, ends = zip(*self._spans, strict=True) if self._spans else ((), ())
        before, behind = (self._places(borders, side) for side in ("left", "right"))
        low = np.array(starts, dtype=np.int64)
        for left, right in zip(before, behind, strict=True):
            if (right - left).sum() <= most:
                yield _spans(low, right)
            else:  # so many of one value that they are taken column by column, which is their order
                yield _spans(low, left)
                yield from self._of_one_value(left, right, most)
            low = right
        yield _spans(low, np.array(ends, dtype=np.int64))

    def _borders(self, most: int) -> NDArray[Any]:
        """Values with about `most` places between them."""
        step = max(1, most // (2 * max(8, len(self._spans))))
        samples = np.sort(np.concatenate([self._values[:0], *(self._values[a:b:step] for a, b in self._spans)]))
        return np.unique(samples[:: max(1, most // (2 * step))])

    def _places(self, borders: NDArray[Any], side: Literal["left", "right"]) -> NDArray[np.int64]:
        """borders × columns"""
        found = [start + self._values[start:stop].searchsorted(borders, side) for start, stop in self._spans]
        return np.array(found, dtype=np.int64).reshape(len(self._spans), len(borders)).T

    def _of_one_value(self, left: NDArray[np.int64], right: NDArray[np.int64], most: int) -> Iterator[Spans]:
        for number in range(len(self._spans)):
            for low in range(int(left[number]), int(right[number]), most):
                part = [(0, 0)] * len(self._spans)
                part[number] = (low, min(low + most, int(right[number])))
                yield part

    def merged(self, spans: Spans) -> tuple[NDArray[Any], ...]:
        """(values, rows, columns) of a range, ascending; equal ones by column and row."""
        values = np.concatenate([self._values[:0], *(self._values[low:high] for low, high in spans)])
        rows = np.concatenate([self._rows[:0], *(self._rows[low:high] for low, high in spans)])
        columns = np.repeat(np.arange(len(spans), dtype=np.uint16), [high - low for low, high in spans])
        order = order_of(values)
        return values.take(order), rows.take(order), columns.take(order)


def _spans(low: NDArray[np.int64], high: NDArray[np.int64]) -> Spans:
    return list(zip(low.tolist(), high.tolist(), strict=True))


def write_hashes(cells: CellsAside, folder: Path, memory_bytes: int) -> None:
    """`text.npy`, and `words-*.npy`: all hashes in order, with row and column of each."""
    write_npy(folder / "text.npy", "<u8", (cells.rows, cells.width), cells.all())
    order = ExternalSort(folder, "words", ("<u8", "<u4", "<u2"), memory_bytes=memory_bytes)
    for number in range(cells.width):
        for piece, rows in _with_rows(cells, number):
            there = piece != 0
            order.add(piece[there], rows[there], np.full(int(there.sum()), number, dtype=np.uint16))
    _write_placed(order.blocks(), folder, "words", "<u8")


def _with_rows(cells: CellsAside, number: int) -> Iterator[tuple[NDArray[Any], NDArray[np.uint32]]]:
    row = 0
    for piece in cells.column(number):
        yield piece, np.arange(row, row + len(piece), dtype=np.uint32)
        row += len(piece)


def _write_placed(blocks: Iterator[tuple[NDArray[Any], ...]], folder: Path, name: str, dtype: str) -> None:
    writers = [
        NpyWriter(folder / f"{name}-{part}.npy", kind)
        for part, kind in (("values", dtype), ("rows", "<u4"), ("columns", "<u2"))
    ]
    for block in blocks:
        for writer, part in zip(writers, block, strict=True):
            writer.write(part)
    for writer in writers:
        writer.close()
