"""Ranges of a version's objects, read from their store in blocks, a few ahead, and known again before they are given.

Each reading names the ETag of the manifest, so an object that was written again is
noticed whatever its size. Blocks that a range covers whole are compared with their
digests as well; of a part of a block nothing is known but the ETag. Two threads read
and hash ahead of whoever takes the blocks, so that store, digest and taker work beside
each other; never more than `AHEAD + 1` blocks are in memory for one range.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Executor, Future
from itertools import islice

from insitu.agent.staging.digests import BLOCK_BYTES, DigestKeys
from insitu.agent.staging.manifest import ManifestObject
from insitu.agent.stores.contract import Buffer, ObjectStore
from insitu.agent.stores.meaning import changed

AHEAD = 2
_THRIFTY_BYTES = 1 << 20


class Ranges:
    """What a store gives of the objects of a version.

    Args:
        store: where they are.
        keys: of their digests.
        readers: the threads that read ahead; may be shared.
    """

    def __init__(self, store: ObjectStore, keys: DigestKeys, readers: Executor) -> None:
        self._store, self._keys, self._readers = store, keys, readers

    def read(
        self, wanted: ManifestObject, start: int, length: int, *, thrifty: bool = False
    ) -> Generator[Buffer, None, None]:
        """The bytes from `start`, `length` of them, in blocks as they lie in the object.

        Args:
            thrifty: in small pieces, none ahead: for a taker among so many that their blocks would fill the memory.
                Only ETags are compared then.

        Raises:
            ObjectChangedError: it is not the object of the manifest any more; also between two blocks.
            StoreError: the store could not be asked.
        """
        parts = _parts(start, length, _THRIFTY_BYTES if thrifty else BLOCK_BYTES)
        ahead = 0 if thrifty else AHEAD
        waiting: deque[Future[Buffer]] = deque()
        try:
            for part in islice(parts, None if thrifty else 1):
                yield self._block(wanted, *part)
            waiting.extend(self._readers.submit(self._block, wanted, *part) for part in islice(parts, ahead))
            while waiting:
                block = waiting.popleft().result()
                waiting.extend(self._readers.submit(self._block, wanted, *part) for part in islice(parts, 1))
                yield block
        finally:
            for future in waiting:
                future.cancel()

    def _block(self, wanted: ManifestObject, start: int, length: int) -> Buffer:
        data = self._store.read(wanted.name, start, length, etag=wanted.etag)
        whole = not start % BLOCK_BYTES and (length == BLOCK_BYTES or start + length == wanted.size_bytes)
        if whole and not self._is_known(wanted, start // BLOCK_BYTES, data):
            raise changed(wanted.name)
        return data

    def _is_known(self, wanted: ManifestObject, number: int, data: Buffer) -> bool:
        leaf = self._keys.leaf_of(data)
        if wanted.leaves:
            return leaf == wanted.leaves[number]
        return self._keys.root_of(len(data), [leaf]) == wanted.digest


def _parts(start: int, length: int, most: int) -> Iterator[tuple[int, int]]:
    """(start, length) of the range's parts, cut at multiples of `most`."""
    end = start + length
    while start < end:
        size = min(end, (start // most + 1) * most) - start
        yield start, size
        start += size
