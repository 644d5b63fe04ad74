"""Ranges of a version's objects, read from their store block by block, and known again before they are given.

Each reading names the ETag of the manifest, so an object that was written again is
noticed whatever its size. Blocks that a range covers whole are compared with their
digests as well; of a part of a block nothing is known but the ETag. In long streams
only a folder's blocks are: its ETag is made of a size and times, which whoever writes
there can set back, while a blob store gives an ETag anew with each writing and keeps to
it (If-Match, RFC 9110, 13.1.1); and a digest takes as long as all else together.

Threads read and hash ahead of whoever takes the blocks, so that store, digest and taker
work beside each other; never more than `BLOCKS_AHEAD + 2` blocks are in memory for one range. What need not be hashed
is given on as it comes, a piece at a time: by one thread where it lies in memory that is used again, since a piece that
is still in the processor's cache is worth more than one that was read ahead.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import Executor, Future
from contextlib import closing, suppress
from typing import TypeVar

from insitu.agent.staging.digests import BLOCK_BYTES, Buffer, DigestKeys
from insitu.agent.staging.manifest import ManifestObject
from insitu.agent.stores.contract import ObjectStore, Reuse
from insitu.agent.stores.meaning import changed

BLOCKS_AHEAD = 2
PIECES_AHEAD = 4
_IN_ONE_STREAM = 2 * BLOCK_BYTES  # from here on a single request is cheaper than one for each block
_THRIFTY_BYTES = 1 << 20
_PASSED_BYTES = 256 << 10

Block = list[Buffer]
"""In pieces, as they came."""
Item = TypeVar("Item")


class Ranges:
    """What a store gives of the objects of a version.

    Args:
        store: where they are.
        keys: of their digests.
        threads: that read and hash; two for each range that is read at once. May be shared.
    """

    def __init__(self, store: ObjectStore, keys: DigestKeys, threads: Executor) -> None:
        self._store, self._keys, self._threads = store, keys, threads

    def read(
        self, wanted: ManifestObject, start: int, length: int, *, thrifty: bool = False
    ) -> Generator[Buffer, None, None]:
        """The bytes from `start`, `length` of them.

        Args:
            thrifty: in small pieces, none ahead: for a taker among so many that their blocks would fill the memory.
                Only ETags are compared then.

        Raises:
            ObjectChangedError: it is not the object of the manifest any more; also between two blocks.
            StoreError: the store could not be asked.
        """
        if thrifty:
            for at, size in _parts(start, length, _THRIFTY_BYTES):
                yield self._store.read(wanted.name, at, size, etag=wanted.etag)
        elif length < _IN_ONE_STREAM:
            for at, size in _parts(start, length, BLOCK_BYTES):
                block = [self._store.read(wanted.name, at, size, etag=wanted.etag)]
                self._check(wanted, at, size, block)
                yield from block
        elif self._store.kind == "folder":
            yield from self._checked_stream(wanted, start, length)
        else:
            yield from self._plain_stream(wanted, start, length)

    def _checked_stream(self, wanted: ManifestObject, start: int, length: int) -> Generator[Buffer, None, None]:
        with closing(self._ahead(self._blocks(wanted, start, length), BLOCKS_AHEAD)) as blocks:
            for checked in blocks:
                yield from checked.result()

    def _blocks(self, wanted: ManifestObject, start: int, length: int) -> Generator[Future[Block], None, None]:
        stream = self._store.stream(wanted.name, start=start, length=length, etag=wanted.etag)
        with closing(_Pieces(stream, length)) as pieces:
            for at, size in _parts(start, length, BLOCK_BYTES):
                yield self._threads.submit(self._check, wanted, at, size, _take(pieces, size))

    def _plain_stream(self, wanted: ManifestObject, start: int, length: int) -> Generator[Buffer, None, None]:
        """As it comes: each piece is given on while it is still in the processor's cache."""
        reuse = Reuse(memoryview(bytearray(_PASSED_BYTES)), full=False) if self._store.reuses else None
        stream = self._store.stream(wanted.name, start=start, length=length, etag=wanted.etag, reuse=reuse)
        with closing(_Pieces(stream, length)) as pieces, closing(self._coming(iter(pieces), reuse)) as coming:
            for piece in coming:
                yield piece
                length -= len(piece)
        if length:
            raise changed(wanted.name)

    def _coming(
        self, pieces: Generator[memoryview, None, None], reuse: Reuse | None
    ) -> Generator[memoryview, None, None]:
        """One after the other, as long as they lie in the same memory."""
        return pieces if reuse else self._ahead(pieces, PIECES_AHEAD)

    def _ahead(self, source: Generator[Item, None, None], room: int) -> Generator[Item, None, None]:
        """What `source` gives, taken by a thread of ours up to `room` ahead, and by nobody any more afterwards."""
        coming: queue.Queue[Item | _End] = queue.Queue(room)
        left = threading.Event()
        reading = self._threads.submit(_pass_on, source, coming, left)
        try:
            while not isinstance(item := coming.get(), _End):
                yield item
            reading.result()
        finally:
            left.set()
            while not reading.done():  # it may wait for room
                with suppress(queue.Empty):
                    coming.get(timeout=0.01)

    def _check(self, wanted: ManifestObject, start: int, length: int, block: Block) -> Block:
        """The block, if it is the one of the manifest, as far as that can be told.

        Raises:
            ObjectChangedError: it isn't, or the object ended before it did.
        """
        if sum(map(len, block)) != length:
            raise changed(wanted.name)
        if not start % BLOCK_BYTES and (length == BLOCK_BYTES or start + length == wanted.size_bytes):
            digests = self._keys.under(wanted.scheme)
            leaf = digests.leaf_of(*block)
            known = wanted.leaves[start // BLOCK_BYTES] if wanted.leaves else None
            if leaf != known and digests.root_of(length, [leaf]) != wanted.digest:
                raise changed(wanted.name)
        return block


class _End:
    """Nothing more comes."""


def _pass_on(source: Generator[Item, None, None], coming: queue.Queue[Item | _End], left: threading.Event) -> None:
    try:
        with closing(source):
            for item in source:
                coming.put(item)
                if left.is_set():
                    return
    finally:
        coming.put(_End())


class _Pieces:
    """A stream that can be taken from in any sizes. Ends after `length` bytes, or where the stream does."""

    def __init__(self, stream: Iterator[Buffer], length: int) -> None:
        self._stream, self._left = stream, length
        self._rest = memoryview(b"")

    def take(self, most: int) -> memoryview:
        """The next bytes, at most so many; none at the end."""
        most = min(most, self._left)
        if most and not self._rest:
            self._rest = memoryview(next(self._stream, b""))
        taken, self._rest = self._rest[:most], self._rest[most:]
        self._left -= len(taken)
        return taken

    def __iter__(self) -> Generator[memoryview, None, None]:
        while piece := self.take(BLOCK_BYTES):
            yield piece

    def close(self) -> None:
        end = getattr(self._stream, "close", None)
        if end is not None:
            end()


def _take(pieces: _Pieces, size: int) -> Block:
    block: Block = []
    while size and (piece := pieces.take(size)):
        block.append(piece)
        size -= len(piece)
    return block


def _parts(start: int, length: int, most: int) -> Iterator[tuple[int, int]]:
    """(start, length) of the range's parts, cut at multiples of `most`."""
    end = start + length
    while start < end:
        size = min(end, (start // most + 1) * most) - start
        yield start, size
        start += size
