"""Writes an index: takes what the readers of `known/sources.py` find, a block at a time, and puts it in order.

Memory is bounded by a setting, whatever the size of the data: what is larger is
sorted on disk, in the index's own folder.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from insitu.domain.errors import InvalidInputError
from insitu.gate.known.files import DataFile
from insitu.gate.known.fingerprints import KNOWN_STEP, Bytes, Words, fingerprints_of, places_in, write_set
from insitu.gate.known.keys import SETS, IndexKeys
from insitu.gate.known.order import CellsAside, write_hashes, write_numbers
from insitu.gate.known.runs import KNOWN_VALUES_STEP, RUN_VALUES, runs_of
from insitu.gate.known.sorting import ExternalSort, without_common
from insitu.gate.known.text import TEXT_STEP

_LEAST_MEMORY = 16 << 20
_FEW = 3
_SHARE = 50
"""What stands in more than one row of fifty tells nothing about any of them: forms, headers, phrases."""

Item = TypeVar("Item")
Made = TypeVar("Made")


class IndexWriter:
    """What an index is made from. Add blocks, then `finish`."""

    def __init__(self, folder: Path, key: bytes, memory_bytes: int) -> None:
        self.folder = folder
        self.keys = IndexKeys.of(key)
        self.memory_bytes = max(memory_bytes, _LEAST_MEMORY)
        self._hashes = {
            name: ExternalSort(folder, name, ("<u8",), memory_bytes=self.memory_bytes // 4) for name in SETS
        }

    @property
    def block_bytes(self) -> int:
        """How much of a file is taken at a time: what is made of it takes some thirty times as much."""
        return max(1 << 16, min(2 << 20, self.memory_bytes // 128))

    @property
    def workers(self) -> int:
        return max(1, min(4, os.cpu_count() or 1))

    def in_order(self, work: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
        """Work on several blocks at once (numpy lets go of Python's lock); what is made comes in order."""
        with ThreadPoolExecutor(self.workers) as pool:
            waiting: deque[Future[Made]] = deque()
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def text_fingerprints(self, normal: Bytes) -> Words:
        return _all(found for _, found in fingerprints_of(self.keys.text, normal, TEXT_STEP))

    def byte_fingerprints(self, data: Bytes) -> Words:
        return _all(found for _, found in fingerprints_of(self.keys.bytes, data, KNOWN_STEP))

    def run_fingerprints(self, values: NDArray[Any]) -> Words:
        return _all(found for _, found in runs_of(self.keys.runs, values, KNOWN_VALUES_STEP))

    def add(self, name: Literal["text", "bytes", "runs"], hashes: Words) -> None:
        self._hashes[name].add(hashes)

    def forget(self) -> None:
        """Start again: what was added was not right."""
        for order in self._hashes.values():
            order.clear()

    def cells(self, name: str, dtype: str, width: int) -> CellsAside:
        """Where a source puts its cells, to be given to `finish`."""
        return CellsAside(self.folder / f".{name}", dtype, width, self.memory_bytes // 8)

    def finish(self, rows: int, numbers: CellsAside | None, words: CellsAside | None) -> list[int]:
        """Put all in order and write it; where each numeric column's part of the order begins.

        Raises:
            InvalidInputError: there are no rows.
        """
        if not rows:
            raise InvalidInputError(
                "the dataset has no rows", code="data-empty", hint="the first line of a CSV is its header"
            )
        starts = [0]
        with ThreadPoolExecutor(1) as beside:  # the sets are put in order while columns are
            for found in self.in_order(self.run_fingerprints, _overlapping(numbers)):
                self.add("runs", found)
            writing = [beside.submit(self._write_set, order, rows) for order in self._hashes.values()]
            writing.append(beside.submit(self._write_words, rows, words))
            if numbers is None:
                np.save(self.folder / "numbers.npy", np.empty((rows, 0)), allow_pickle=False)
            else:
                starts = write_numbers(numbers, self.folder, self.memory_bytes, self.in_order)
            for one in writing:
                one.result()
        return starts

    def _write_set(self, order: ExternalSort, rows: int) -> None:
        write_set(self.folder, order.name, without_common(order.blocks(), most=max(_FEW, rows // _SHARE)))

    def _write_words(self, rows: int, words: CellsAside | None) -> None:
        if words is None:
            np.save(self.folder / "text.npy", np.empty((rows, 0), dtype="<u8"), allow_pickle=False)
        else:
            write_hashes(words, self.folder, self.memory_bytes // 2)


class Pieces:
    """A file's bytes in overlapping pieces, so that no run of them is cut."""

    def __init__(self, path: DataFile, size: int, *, skip: int = 0) -> None:
        self._path, self._size, self._skip = path, size, skip

    def __iter__(self) -> Iterator[Bytes]:
        kept = b""
        with self._path.open("rb") as stream:
            stream.seek(self._skip)
            while more := stream.read(self._size):
                data = kept + more
                yield np.frombuffer(data, dtype=np.uint8)
                kept = data[places_in(len(data), KNOWN_STEP) * KNOWN_STEP :]


def _overlapping(numbers: CellsAside | None) -> Iterator[NDArray[Any]]:
    """The columns, one after the other, in pieces of which each begins with the end of the one before it."""
    for number in range(numbers.width if numbers else 0):
        kept = np.empty(0)
        for piece in numbers.column(number) if numbers else ():
            whole = np.concatenate((kept, piece))
            yield whole
            done = max(0, (len(whole) - RUN_VALUES) // KNOWN_VALUES_STEP + 1)
            kept = whole[done * KNOWN_VALUES_STEP :]


def _all(parts: Iterable[Words]) -> Words:
    return np.concatenate([np.empty(0, dtype=np.uint64), *parts])
