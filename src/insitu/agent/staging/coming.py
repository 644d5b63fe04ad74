"""A large object's file while it arrives: block by block, each hashed on its way to the disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager

from insitu.agent.staging.digests import BLOCK_BYTES, Buffer, Hasher, blocks_of
from insitu.agent.staging.objects import Objects, write_all


class Coming:
    """The file, while blocks arrive in any order. Opened for each run of them: they are large."""

    def __init__(self, objects: Objects, token: str, size_bytes: int) -> None:
        self._objects, self._size = objects, size_bytes
        self._path = objects.partial / token
        self._lock = threading.Lock()
        self._left = blocks_of(size_bytes)
        self.resumed = self._path.exists()
        """Some of it may be here already."""

    def runs(self, length: int) -> Iterator[range]:
        """All its blocks, by so many."""
        blocks = blocks_of(self._size)
        return (range(first, min(blocks, first + length)) for first in range(0, blocks, length))

    def place(self, numbers: range) -> tuple[int, int]:
        """Where some blocks in a row begin, and how many bytes they have."""
        start = numbers.start * BLOCK_BYTES
        return start, min(numbers.stop * BLOCK_BYTES, self._size) - start

    def read(self, number: int) -> bytes:
        """What is here of a block."""
        start, length = self.place(range(number, number + 1))
        with self._opened() as file:
            return os.pread(file, length, start)

    @contextmanager
    def arriving(self, pieces: Iterator[Buffer]) -> Iterator[Arriving]:
        """What a store sends of a run of blocks, on its way into the file."""
        with self._opened() as file:
            try:
                yield Arriving(self, pieces, file)
            finally:
                if isinstance(pieces, Generator):
                    pieces.close()

    def done(self) -> bool:
        """One block more is here; was it the last?"""
        with self._lock:
            self._left -= 1
            return not self._left

    def finish(self, digest: str) -> None:
        with self._opened() as file:
            if os.fstat(file).st_size != self._size:  # asked of a file that has it, that takes a millisecond or two
                os.ftruncate(file, self._size)
        if self._objects.links(digest, self._size):
            self._path.unlink()
        else:
            self._objects.adopt(self._path, digest)

    def write(self, file: int, piece: Buffer, at: int) -> None:
        write_all(file, piece, at)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield file
        finally:
            os.close(file)


class Passing(Coming):
    """An object that is only looked at: nothing of it is written."""

    def write(self, file: int, piece: Buffer, at: int) -> None:
        """It goes by."""

    def finish(self, digest: str) -> None:
        """Nothing is left to be put in its place."""

    @contextmanager
    def _opened(self) -> Iterator[int]:
        yield -1


class Arriving:
    """Writes what a store sends of a run, block by block."""

    def __init__(self, coming: Coming, pieces: Iterator[Buffer], file: int) -> None:
        self._coming, self._pieces, self._file = coming, pieces, file
        self._rest = memoryview(b"")

    def next(self, number: int, leaf: Hasher) -> bytes:
        """Write a block, the one that follows on the last, and hand it to `leaf`: its digest; empty if less came."""
        at, left = self._coming.place(range(number, number + 1))
        while left:
            if not self._rest:
                self._rest = memoryview(next(self._pieces, b"")).cast("B")
            piece, self._rest = self._rest[:left], self._rest[left:]
            if not piece:
                return b""
            leaf.update(piece)
            self._coming.write(self._file, piece, at)
            at += len(piece)
            left -= len(piece)
        return leaf.digest()
