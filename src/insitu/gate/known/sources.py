"""What a dataset's files are, and what of them goes into its index.

    csv     cells by row, for row evidence · the text as a whole
    parquet the same; of its text the columns of text, a line for each row
    npy     numbers by row · the bytes as they are
    text    lines · the text as a whole
    files   the bytes as they are
    images  pixels (PNG, or npy stacks of them) · the bytes as they are

Of all numbers that stand in an order of their own (columns, pixels) also runs
that are the same under any scaling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from insitu.domain.errors import InvalidInputError
from insitu.gate.known.build import IndexWriter, Pieces
from insitu.gate.known.csv import Block, CsvFiles, broken, lines_block
from insitu.gate.known.decimals import Floats
from insitu.gate.known.files import DataFile, on_disk
from insitu.gate.known.fingerprints import Bytes, Words
from insitu.gate.known.images import images_in
from insitu.gate.known.order import CellsAside
from insitu.gate.known.parquet import ParquetFiles
from insitu.gate.known.text import TextPieces
from insitu.gate.readers.numpy import NotReadableError, parse_npy_header

ColumnType = Literal["integer", "number", "text"]
Columns = list[tuple[str, ColumnType]]
Filled = tuple[int, Columns, list[int]]
"""Rows, columns, and where each numeric column's part of the order begins."""

_HEAD = 64
"""The first bytes of a file belong to its format: names, versions, sizes."""


def source_of(format: str) -> Callable[[Sequence[DataFile], IndexWriter], Filled]:
    """What reads files of a format into an index.

    Raises:
        InvalidInputError: there is no such format.
    """
    if format not in _SOURCES:
        raise InvalidInputError(
            f"datasets of format {format[:40]!r} can't be indexed",
            code="data-format",
            hint=f"use {', '.join(_SOURCES)}; a dataset that is not indexed can't be guarded",
        )
    return _SOURCES[format]


# ── CSV ─────────────────────────────────────────────────────────────────────


def _csv(files: Sequence[DataFile], writer: IndexWriter) -> Filled:
    text: frozenset[int] = frozenset()
    while True:
        source = CsvFiles(files, block_bytes=writer.block_bytes)
        attempt = _CsvCells(source, writer, text)
        try:
            if attempt.read():
                return attempt.finish()
        finally:
            attempt.close()
        text = attempt.text  # a column turned out to hold words after its first rows: once more, from the start


@dataclass
class _Taken:
    """What was read of one block."""

    block: Block
    numbers: dict[int, Floats]
    words: dict[int, Words]
    fingerprints: Words


class _CsvCells:
    """One reading of all files, with what is known so far of which columns are text."""

    def __init__(self, source: CsvFiles, writer: IndexWriter, text: frozenset[int]) -> None:
        self._source, self._writer = source, writer
        self.text = text
        self._whole: set[int] = set()  # columns of whole numbers
        self._cells: tuple[CellsAside, CellsAside] | None = None

    def read(self) -> bool:
        """False: a column is text that was taken for numbers before. The rest was read to find more of them."""
        pieces = TextPieces()
        blocks = ((block, pieces.next(data)) for block, data in self._source.blocks())
        late = False
        for taken in self._writer.in_order(self._take, blocks):
            known = self.text
            self.text |= frozenset(taken.words)
            if self._cells is None:
                self._open(taken)
            elif self.text != known:
                late = True
            if not late:
                self._add(taken)
        if late:
            self._writer.forget()
        return not late

    def _take(self, item: tuple[Callable[[], Block], Bytes]) -> _Taken:
        block, normal = item[0](), item[1]
        known = self.text
        taken = _Taken(block, {}, {}, self._writer.text_fingerprints(normal))
        for column in range(len(self._source.header)):
            try:
                if column not in known:
                    taken.numbers[column] = block.numbers(column)
                    continue
            except ValueError:
                pass
            taken.words[column] = block.hashes(column, self._writer.keys.cells)
        return taken

    def _open(self, taken: _Taken) -> None:
        self._whole = set(taken.numbers)
        self._cells = (
            self._writer.cells("numbers", "<f8", len(taken.numbers)),
            self._writer.cells("words", "<u8", len(taken.words)),
        )

    def _add(self, taken: _Taken) -> None:
        if self._cells is None:
            return
        for column in self.text - set(taken.words):  # words that look like numbers
            del taken.numbers[column]
            taken.words[column] = taken.block.hashes(column, self._writer.keys.cells)
        for column, values in taken.numbers.items():
            finite = values[np.isfinite(values)]
            if column in self._whole and not np.array_equal(finite, np.rint(finite)):
                self._whole.discard(column)
        self._cells[0].add([taken.numbers[column] for column in sorted(taken.numbers)], taken.block.rows)
        self._cells[1].add([taken.words[column] for column in sorted(taken.words)], taken.block.rows)
        self._writer.add("text", taken.fingerprints)

    def finish(self) -> Filled:
        rows = self._cells[0].rows if self._cells else 0
        columns: Columns = [
            (name, "text" if at in self.text else "integer" if at in self._whole else "number")
            for at, name in enumerate(self._source.header)
        ]
        return rows, columns, self._writer.finish(rows, *(self._cells or (None, None)))

    def close(self) -> None:
        for cells in self._cells or ():
            cells.close()


# ── Parquet ─────────────────────────────────────────────────────────────────


def _parquet(files: Sequence[DataFile], writer: IndexWriter) -> Filled:
    source = ParquetFiles(files, block_bytes=writer.block_bytes)
    cells: tuple[CellsAside, CellsAside] | None = None
    pieces = TextPieces()
    try:
        for block in source.blocks():
            text = [at for at, column in enumerate(source.columns) if column.is_text]
            numeric = [at for at, column in enumerate(source.columns) if not column.is_text]
            if cells is None:
                cells = writer.cells("numbers", "<f8", len(numeric)), writer.cells("words", "<u8", len(text))
            cells[0].add([source.columns[at].numbers(block.columns[at]) for at in numeric], block.rows)
            key = writer.keys.cells
            cells[1].add([source.columns[at].hashes(block.columns[at], key) for at in text], block.rows)
            if text:
                writer.add("text", writer.text_fingerprints(pieces.next(block.text(text))))
        rows = cells[0].rows if cells else 0
        columns: Columns = [
            (column.leaf.name, "text" if column.is_text else "integer" if column.is_whole else "number")
            for column in source.columns
        ]
        return rows, columns, writer.finish(rows, *(cells or (None, None)))
    finally:
        for one in cells or ():
            one.close()


# ── Tables of numbers ───────────────────────────────────────────────────────


def _npy(files: Sequence[DataFile], writer: IndexWriter) -> Filled:
    first = _open_npy(files[0])
    if first.ndim != (1 if first.dtype.names else 2):
        raise broken(files[0], 0, "it is not a table of numbers")
    names = first.dtype.names or tuple(f"column {at}" for at in range(first.shape[1]))
    kinds = [first.dtype[name] for name in names] if first.dtype.names else [first.dtype] * len(names)
    cells = writer.cells("numbers", "<f8", len(names))
    try:
        like = first.shape[1:], first.dtype
        del first  # and with it what it was mapped from
        for block in _npy_blocks(files, like, writer.block_bytes):
            columns = [block[name] for name in names] if block.dtype.names else list(block.T)
            cells.add([column.astype(np.float64) for column in columns], len(block))
        _add_bytes(files, writer, skip=128)
        types: Columns = [
            (name, "number" if kind.kind == "f" else "integer") for name, kind in zip(names, kinds, strict=True)
        ]
        return cells.rows, types, writer.finish(cells.rows, cells, None)
    finally:
        cells.close()


def _open_npy(path: DataFile) -> NDArray[Any]:
    try:
        with path.open("rb") as stream:
            header = parse_npy_header(stream.read(11_000))
        if header.dtype is None:
            raise broken(path, 0, "it holds Python objects")
        with on_disk(path) as place:
            array = cast("NDArray[Any]", np.load(place, mmap_mode="r", allow_pickle=False))
    except (NotReadableError, ValueError) as error:
        raise broken(path, 0, "it is not an npy file of numbers") from error
    kinds = [array.dtype[name].kind for name in array.dtype.names or ()] or [array.dtype.kind]
    if not set(kinds) <= set("fiub"):
        raise broken(path, 0, "it is not a table of numbers")
    return array


def _npy_blocks(files: Sequence[DataFile], like: tuple[Any, Any], block_bytes: int) -> Iterator[NDArray[Any]]:
    for path in files:
        array = _open_npy(path)
        if (array.shape[1:], array.dtype) != like:
            raise broken(path, 0, "its columns differ from those of the first file")
        step = max(1, block_bytes // max(1, array.nbytes // max(1, len(array))))
        for start in range(0, len(array), step):
            yield array[start : start + step]


# ── Text, files, images ─────────────────────────────────────────────────────


def _text(files: Sequence[DataFile], writer: IndexWriter) -> Filled:
    lines = writer.cells("words", "<u8", 1)
    try:
        for path in files:
            pieces = TextPieces()
            for data in _whole_lines(path, writer.block_bytes):
                writer.add("text", writer.text_fingerprints(pieces.next(data)))
                block = lines_block(data)
                hashes = block.hashes(0, writer.keys.cells)
                hashes = hashes[hashes != 0]
                lines.add([hashes], len(hashes))
        return lines.rows, [("line", "text")], writer.finish(lines.rows, None, lines)
    finally:
        lines.close()


def _whole_lines(path: DataFile, size: int) -> Iterator[bytes]:
    kept = b""
    with path.open("rb") as stream:
        while more := stream.read(size):
            data = (kept + more).replace(b"\r\n", b"\n")
            end = data.rfind(b"\n") + 1 or (len(data) if len(data) > 16 * size else 0)
            if end:
                yield _checked_text(path, data[:end])
            kept = data[end:]
    if kept:
        yield _checked_text(path, kept + b"\n")


def _checked_text(path: DataFile, data: bytes) -> bytes:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"{path.name} can't be read as text: it is not UTF-8",
            code="data-broken",
            hint="convert it to UTF-8, or add it with `--format files`",
        ) from error
    return data


def _files(files: Sequence[DataFile], writer: IndexWriter) -> Filled:
    _add_bytes(files, writer, skip=_HEAD)
    return len(files), [], writer.finish(len(files), None, None)


def _images(files: Sequence[DataFile], writer: IndexWriter) -> Filled:
    count = 0
    for path in files:
        for pixels in images_in(path):
            count += 1
            writer.add("bytes", writer.byte_fingerprints(np.frombuffer(pixels.tobytes(), dtype=np.uint8)))
            for plane in np.moveaxis(pixels, -1, 0):
                writer.add("runs", writer.run_fingerprints(plane.reshape(-1)))
        if path.read_bytes()[:4] == b"\x89PNG":
            _add_bytes([path], writer, skip=_HEAD)
    return count, [], writer.finish(count, None, None)


def _add_bytes(files: Sequence[DataFile], writer: IndexWriter, *, skip: int) -> None:
    pieces = (piece for path in files for piece in Pieces(path, writer.block_bytes, skip=skip))
    for found in writer.in_order(writer.byte_fingerprints, pieces):  # over all files: there may be very many small ones
        writer.add("bytes", found)


_SOURCES: dict[str, Callable[[Sequence[DataFile], IndexWriter], Filled]] = {
    "csv": _csv,
    "parquet": _parquet,
    "npy": _npy,
    "text": _text,
    "files": _files,
    "images": _images,
}
FORMATS = tuple(_SOURCES)
