"""Brings objects from a store into the cache: many at a time, in blocks, verified while they are written.

Workers take runs of blocks from one line, so that a single large object keeps all of
them busy, as do ten thousand small ones. A run is one request to the store, since each
costs some milliseconds there; it is as long as leaves every worker something to do. What comes of it is hashed and
written by the same thread while it is still in the processor's cache, half a megabyte at a time.

What was begun goes on: an object that is whole is not fetched again, and of a large
one only those blocks that don't verify. Nothing is believed for having been written
before; it is hashed again, which is quicker than any store.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from insitu.agent.staging.coming import Coming, Passing
from insitu.agent.staging.digests import BLOCK_BYTES, Buffer, DigestKeys, blocks_of
from insitu.agent.staging.manifest import ManifestObject
from insitu.agent.staging.objects import Objects
from insitu.agent.staging.workers import StoppedError, Task, do_all
from insitu.agent.stores.contract import ObjectChangedError, ObjectInfo, ObjectStore, Reuse
from insitu.agent.stores.meaning import changed

WORKERS = 8
"""At most; how many it takes is `workers`' to find out."""
_LONGEST_RUN = 8
"""Blocks that are asked for at once."""
_PIECE = 512 << 10


@dataclass(frozen=True)
class Fetching:
    """What all workers share."""

    store: ObjectStore
    objects: Objects
    keys: DigestKeys
    progress: Callable[[int], None] = lambda _: None
    """Called with each number of bytes that are here from now on; by any thread."""
    stop: Callable[[], bool] = lambda: False
    workers: int = WORKERS
    keep: bool = True
    """False: `learn` only says what objects are, and writes nothing."""
    absent: Collection[str] = ()
    """Digests of objects that are not here, as somebody has seen already."""
    _ending: threading.Event = field(default_factory=threading.Event)
    """One worker failed: the others need not go on."""

    def stage(self, wanted: Sequence[ManifestObject]) -> None:
        """Have all of `wanted` in the cache, as their digests say.

        Raises:
            ObjectChangedError, ObjectMissingError: the store has another object by now.
            StoreError: the store could not be asked.
            StoppedError: `stop` said so.
            OSError: the disk takes no more.
        """
        run = self._run_length(sum(blocks_of(one.size_bytes) for one in wanted))
        self._work(task for one in _once(wanted) for task in self._tasks(one, run))

    def learn(self, found: Sequence[ObjectInfo]) -> list[ManifestObject]:
        """Fetch objects that nobody has seen before, and say what they are; in the order given.

        Raises:
            As `stage` does.
        """
        learned: dict[int, ManifestObject] = {}
        run = self._run_length(sum(blocks_of(one.size_bytes) for one in found))

        def tasks() -> Iterator[Task]:
            for number, info in enumerate(found):
                if info.size_bytes <= BLOCK_BYTES:
                    yield lambda info=info, number=number: learned.__setitem__(number, self._learn_small(info))
                else:
                    coming = Coming if self.keep else Passing
                    learning = _Learning(info, coming(self.objects, f"new-{os.getpid()}-{number}", info.size_bytes))
                    yield from self._learning(
                        learning, run, lambda one, number=number: learned.__setitem__(number, one)
                    )

        self._work(tasks())
        return [learned[number] for number in range(len(found))]

    # -- one object ----------------------------------------------------------------------------------------------------

    def _run_length(self, blocks: int) -> int:
        """How many blocks to ask for at once, so that each worker has its turn at least twice."""
        return max(1, min(_LONGEST_RUN, blocks // (2 * self.workers)))

    def _tasks(self, wanted: ManifestObject, run: int) -> Iterator[Task]:
        if not wanted.size_bytes:
            return
        links = 0 if wanted.digest in self.absent else self.objects.links(wanted.digest, wanted.size_bytes)
        if links > 1:  # part of a version that is whole
            self.progress(wanted.size_bytes)
        elif not wanted.leaves:
            yield lambda: self._small(wanted, here=bool(links))
        elif links:
            yield lambda: self._check_large(wanted, run)
        else:
            yield from self._large(wanted, run)

    def _small(self, wanted: ManifestObject, *, here: bool) -> None:
        digests = self.keys.under(wanted.scheme)
        if here and digests.of_file(self.objects.path(wanted.digest)) == wanted.digest:
            self.progress(wanted.size_bytes)
            return
        data = self._read(_Source(self.store, wanted), 0, wanted.size_bytes)
        if digests.root_of(len(data), [digests.leaf_of(data)]) != wanted.digest:
            raise changed(wanted.name)
        self.objects.put(wanted.digest, data)
        self.progress(wanted.size_bytes)

    def _check_large(self, wanted: ManifestObject, run: int) -> None:
        """Here whole, but of no version that is: what a staging left that was stopped. It may be damaged."""
        path = self.objects.path(wanted.digest)
        if self.keys.under(wanted.scheme).of_file(path) == wanted.digest:
            self.progress(wanted.size_bytes)
            return
        path.unlink()
        for task in self._large(wanted, run):
            task()

    def _large(self, wanted: ManifestObject, run: int) -> Iterator[Task]:
        coming = Coming(self.objects, wanted.digest, wanted.size_bytes)
        source = _Source(self.store, wanted)
        for numbers in coming.runs(run):
            yield lambda numbers=numbers: self._run(coming, source, numbers)

    def _run(self, coming: Coming, source: _Source, numbers: range) -> None:
        """Some blocks in a row: what is here of them by now, and the rest from the store."""
        leaves, digests = source.wanted.leaves, self.keys.under(source.wanted.scheme)
        while coming.resumed and numbers and digests.leaf_of(coming.read(numbers[0])) == leaves[numbers[0]]:
            self._count(coming, numbers[0], source.wanted.digest)
            numbers = numbers[1:]
        if not numbers:
            return
        with coming.arriving(self._stream(source, *coming.place(numbers))) as arriving:
            for number in numbers:
                if arriving.next(number, digests.leaf_to_come()) != leaves[number]:
                    raise changed(source.wanted.name)
                self._count(coming, number, source.wanted.digest)

    def _count(self, coming: Coming, number: int, digest: str) -> None:
        """One block more is here."""
        self.progress(coming.place(range(number, number + 1))[1])
        if coming.done():
            coming.finish(digest)
        self._check_going()

    def _learning(self, one: _Learning, run: int, learned: Callable[[ManifestObject], None]) -> Iterator[Task]:
        info, coming = one.info, one.coming

        def learn(numbers: range) -> None:
            start, length = coming.place(numbers)
            pieces = self.store.stream(info.name, start=start, length=length, etag=info.etag, reuse=_one_piece())
            with coming.arriving(pieces) as arriving:
                for number in numbers:
                    leaf = one.leaves[number] = arriving.next(number, self.keys.newest.leaf_to_come())
                    if not leaf:
                        raise changed(info.name)
                    self.progress(coming.place(range(number, number + 1))[1])
                    if coming.done():
                        digest = self.keys.newest.root_of(info.size_bytes, one.leaves)
                        coming.finish(digest)
                        learned(ManifestObject(info.name, info.size_bytes, info.etag, digest, tuple(one.leaves)))
                    self._check_going()

        for numbers in coming.runs(run):
            yield lambda numbers=numbers: learn(numbers)

    def _learn_small(self, info: ObjectInfo) -> ManifestObject:
        data = self.store.read(info.name, 0, info.size_bytes, etag=info.etag)
        digests = self.keys.newest
        digest = digests.root_of(info.size_bytes, [digests.leaf_of(data)] if info.size_bytes else [])
        if self.keep and info.size_bytes and not self.objects.links(digest, info.size_bytes):
            self.objects.put(digest, data)
        self.progress(info.size_bytes)
        return ManifestObject(info.name, info.size_bytes, info.etag, digest)

    def _read(self, source: _Source, start: int, length: int) -> Buffer:
        tried = source.etag
        try:
            return self.store.read(source.wanted.name, start, length, etag=tried)
        except ObjectChangedError:
            source.look_again(tried)
            return self.store.read(source.wanted.name, start, length, etag=source.etag)

    def _stream(self, source: _Source, start: int, length: int) -> Iterator[Buffer]:
        tried, begun, reuse = source.etag, False, _one_piece()
        name, stream = source.wanted.name, self.store.stream
        try:
            for piece in stream(name, start=start, length=length, etag=tried, reuse=reuse):
                begun = True
                yield piece
        except ObjectChangedError:
            if begun:
                raise
            source.look_again(tried)
            yield from stream(name, start=start, length=length, etag=source.etag, reuse=reuse)

    def _check_going(self) -> None:
        if self._ending.is_set() or self.stop():
            raise StoppedError("staging was stopped")

    # -- many of them --------------------------------------------------------------------------------------------------

    def _work(self, tasks: Iterator[Task]) -> None:
        do_all(tasks, stop=self.stop, ending=self._ending, most=self.workers)


def _one_piece() -> Reuse:
    """Memory for what is hashed and written before the next piece comes; small enough to stay in the cache meanwhile."""
    return Reuse(memoryview(bytearray(_PIECE)))


@dataclass
class _Source:
    """Where an object is read from, under the ETag that it has now."""

    store: ObjectStore
    wanted: ManifestObject
    etag: str = ""

    def __post_init__(self) -> None:
        self.etag = self.wanted.etag

    def look_again(self, tried: str) -> None:
        """It has another ETag than the one that was tried, and may hold the same bytes all the same: digests say so.

        A file that was copied back or touched does, and a bucket that was restored.

        Raises:
            ObjectChangedError: it can't: it has another size; or it has the ETag under which it was asked for.
            ObjectMissingError, StoreError: it is gone, or can't be asked for.
        """
        now = self.store.describe(self.wanted.name)
        if now.size_bytes != self.wanted.size_bytes or now.etag == tried:
            raise changed(self.wanted.name)
        self.etag = now.etag


class _Learning:
    """A large object that nobody has seen before, on its way."""

    def __init__(self, info: ObjectInfo, coming: Coming) -> None:
        self.info, self.coming = info, coming
        self.leaves = [b""] * blocks_of(info.size_bytes)


def _once(wanted: Sequence[ManifestObject]) -> Iterator[ManifestObject]:
    """Each object once, though several names may have it."""
    seen: set[str] = set()
    for one in wanted:
        if one.digest not in seen:
            seen.add(one.digest)
            yield one
