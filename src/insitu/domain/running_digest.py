"""SHA-256 over bytes that come piece by piece, on a thread beside whoever moves them.

Hashing costs about as much as moving bytes over a fast link does, and hashlib lets
go of the interpreter meanwhile: beside each other the two take as long as the slower.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from insitu.domain.digests import Digest

AHEAD = 6
"""How many pieces may wait. Once `AHEAD + 1` more were handed over, a piece may be written over."""

Piece = bytes | bytearray | memoryview


class PieceBuffers:
    """Memory for pieces, used in turns: each is hashed by the time that it comes round again."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._all: list[memoryview] = []
        self._next = 0

    def filled_by(self, fill: Callable[[memoryview], int]) -> memoryview:
        """The next piece, as far as `fill` filled it. It has its turn again at once when that was not at all."""
        if self._next == len(self._all) and len(self._all) < AHEAD + 2:
            self._all.append(memoryview(bytearray(self._size_bytes)))
        self._next %= len(self._all)
        piece = self._all[self._next]
        filled = fill(piece)
        self._next += 1 if filled else 0
        return piece[:filled]


class RunningDigest:
    """The digest of what was handed over so far, in that order. For one thread; ends its own with the block."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._waiting: queue.Queue[Piece | None] = queue.Queue(AHEAD)
        self._thread: threading.Thread | None = None
        self._begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._settle()

    def update(self, piece: Piece) -> None:
        """Take in the next piece. Returns at once unless `AHEAD` of them wait; until then its bytes must not change."""
        if not self._begun:  # most of what moves is a single piece, which is no work for a thread
            self._begun = True
            self._hash.update(piece)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="digest", daemon=True)
            self._thread.start()
        self._waiting.put(piece)

    def restart(self) -> None:
        """Forget what was handed over."""
        self._settle()
        self._hash = hashlib.sha256()

    def digest(self) -> Digest:
        """Of all that was handed over. More may follow."""
        self._settle()
        return Digest("sha256:" + self._hash.hexdigest())

    def _settle(self) -> None:
        """Wait until nothing waits. The thread ends, and the next piece starts another."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (piece := self._waiting.get()) is not None:
            self._hash.update(piece)
