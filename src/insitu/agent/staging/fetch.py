"""Brings objects from a store into the cache: many at a time, in blocks, verified while they are written.

Workers take blocks from one line, so that a single large object keeps all of them
busy, as do ten thousand small ones. A block is read, hashed and written by the same
thread, and is never more than once in memory.

What was begun goes on: an object that is whole is not fetched again, and of a large
one only those blocks that don't verify. Nothing is believed for having been written
before; it is hashed again, which is quicker than any store.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from insitu.agent.staging.digests import BLOCK_BYTES, Buffer, DigestKeys, blocks_of
from insitu.agent.staging.manifest import ManifestObject
from insitu.agent.staging.objects import Objects, write_all
from insitu.agent.stores.contract import ObjectChangedError, ObjectInfo, ObjectStore
from insitu.agent.stores.meaning import changed
from insitu.domain.errors import ConflictError

WORKERS = 8

Task = Callable[[], None]


class StoppedError(ConflictError):
    """Somebody said stop in the middle: the job was cancelled, or the agent ends. What is here stays for next time."""

    default_code = "staging-stopped"


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

    def stage(self, wanted: Sequence[ManifestObject]) -> None:
        """Have all of `wanted` in the cache, as their digests say.

        Raises:
            ObjectChangedError, ObjectMissingError: the store has another object by now.
            StoreError: the store could not be asked.
            StoppedError: `stop` said so.
            OSError: the disk takes no more.
        """
        self._work(task for one in _once(wanted) for task in self._tasks(one))

    def learn(self, found: Sequence[ObjectInfo]) -> list[ManifestObject]:
        """Fetch objects that nobody has seen before, and say what they are; in the order given.

        Raises:
            As `stage` does.
        """
        learned: dict[int, ManifestObject] = {}

        def tasks() -> Iterator[Task]:
            for number, info in enumerate(found):
                yield from self._learning(info, f"new-{os.getpid()}-{number}", learned, number)

        self._work(tasks())
        return [learned[number] for number in range(len(found))]

    # -- one object ----------------------------------------------------------------------------------------------------

    def _tasks(self, wanted: ManifestObject) -> Iterator[Task]:
        if not wanted.size_bytes:
            return
        links = self.objects.links(wanted.digest, wanted.size_bytes)
        if links > 1:  # part of a version that is whole
            self.progress(wanted.size_bytes)
        elif not wanted.leaves:
            yield lambda: self._small(wanted, here=bool(links))
        elif links:
            yield lambda: self._check_large(wanted)
        else:
            yield from self._large(wanted)

    def _small(self, wanted: ManifestObject, *, here: bool) -> None:
        if here and self.keys.of_file(self.objects.path(wanted.digest)) == wanted.digest:
            self.progress(wanted.size_bytes)
            return
        data = self._read(_Source(self.store, wanted), 0, wanted.size_bytes)
        if self.keys.root_of(len(data), [self.keys.leaf_of(data)]) != wanted.digest:
            raise changed(wanted.name)
        self.objects.put(wanted.digest, data)
        self.progress(wanted.size_bytes)

    def _check_large(self, wanted: ManifestObject) -> None:
        """Here whole, but of no version that is: what a staging left that was stopped. It may be damaged."""
        path = self.objects.path(wanted.digest)
        if self.keys.of_file(path) == wanted.digest:
            self.progress(wanted.size_bytes)
            return
        path.unlink()
        for task in self._large(wanted):
            task()

    def _large(self, wanted: ManifestObject) -> Iterator[Task]:
        coming = _Coming(self.objects, wanted.digest, wanted.size_bytes)
        source = _Source(self.store, wanted)
        for number in range(blocks_of(wanted.size_bytes)):
            yield lambda number=number: self._block(coming, source, wanted.leaves[number], number)

    def _block(self, coming: _Coming, source: _Source, leaf: bytes, number: int) -> None:
        start, length = coming.place(number)
        if not (coming.resumed and self.keys.leaf_of(coming.read(start, length)) == leaf):
            data = self._read(source, start, length)
            if self.keys.leaf_of(data) != leaf:
                raise changed(source.wanted.name)
            coming.write(data, start)
        self.progress(length)
        if coming.done():
            coming.finish(source.wanted.digest)

    def _learning(
        self, info: ObjectInfo, token: str, learned: dict[int, ManifestObject], number: int
    ) -> Iterator[Task]:
        size = info.size_bytes
        if size <= BLOCK_BYTES:
            yield lambda: learned.__setitem__(number, self._learn_small(info))
            return
        coming = _Coming(self.objects, token, size)
        leaves: list[bytes] = [b""] * blocks_of(size)

        def block(at: int) -> None:
            start, length = coming.place(at)
            data = self.store.read(info.name, start, length, etag=info.etag)
            leaves[at] = self.keys.leaf_of(data)
            if self.keep:
                coming.write(data, start)
            self.progress(length)
            if coming.done():
                digest = self.keys.root_of(size, leaves)
                if self.keep:
                    coming.finish(digest)
                learned[number] = ManifestObject(info.name, size, info.etag, digest, tuple(leaves))

        for at in range(len(leaves)):
            yield lambda at=at: block(at)

    def _learn_small(self, info: ObjectInfo) -> ManifestObject:
        data = self.store.read(info.name, 0, info.size_bytes, etag=info.etag)
        leaves = [self.keys.leaf_of(data)] if info.size_bytes else []
        digest = self.keys.root_of(info.size_bytes, leaves)
        if self.keep and info.size_bytes and not self.objects.links(digest, info.size_bytes):
            self.objects.put(digest, data)
        self.progress(info.size_bytes)
        return ManifestObject(info.name, info.size_bytes, info.etag, digest)

    def _read(self, source: _Source, start: int, length: int) -> Buffer:
        """A range of the object that was listed, or of one that claims to be the same under another ETag.

        A file that was copied back or touched, and a bucket that was restored, hold the same bytes; digests say so.
        """
        tried = source.etag
        try:
            return self.store.read(source.wanted.name, start, length, etag=tried)
        except ObjectChangedError:
            now = self.store.describe(source.wanted.name)
            if now.size_bytes != source.wanted.size_bytes or now.etag == tried:
                raise
            source.etag = now.etag
            return self.store.read(source.wanted.name, start, length, etag=source.etag)

    # -- many of them --------------------------------------------------------------------------------------------------

    def _work(self, tasks: Iterator[Task]) -> None:
        """Do all tasks, several at once; the first failure ends the others, and is raised."""
        line = _Line(tasks, self.stop)
        threads = [threading.Thread(target=line.work, name=f"stage-{n}", daemon=True) for n in range(self.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if line.failures:
            raise line.failures[0]


@dataclass
class _Source:
    """Where an object is read from, under the ETag that it has now."""

    store: ObjectStore
    wanted: ManifestObject
    etag: str = ""

    def __post_init__(self) -> None:
        self.etag = self.wanted.etag


class _Coming:
    """A large object's file while its blocks arrive, in any order. Opened for each of them: they are large."""

    def __init__(self, objects: Objects, token: str, size_bytes: int) -> None:
        self._objects, self._size = objects, size_bytes
        self._path = objects.partial / token
        self._lock = threading.Lock()
        self._left = blocks_of(size_bytes)
        self.resumed = self._path.exists()
        """Some of it may be here already."""

    def place(self, number: int) -> tuple[int, int]:
        start = number * BLOCK_BYTES
        return start, min(BLOCK_BYTES, self._size - start)

    def read(self, start: int, length: int) -> bytes:
        with self._opened() as file:
            return os.pread(file, length, start)

    def write(self, data: Buffer, start: int) -> None:
        with self._opened() as file:
            write_all(file, data, start)

    def done(self) -> bool:
        """One block more is here; was it the last?"""
        with self._lock:
            self._left -= 1
            return not self._left

    def finish(self, digest: str) -> None:
        with self._opened() as file:
            os.ftruncate(file, self._size)
        if self._objects.links(digest, self._size):
            self._path.unlink()
        else:
            self._objects.adopt(self._path, digest)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield file
        finally:
            os.close(file)


@dataclass
class _Line:
    """Tasks that wait, and workers who take them."""

    tasks: Iterator[Task]
    stop: Callable[[], bool]
    failures: list[BaseException] = field(default_factory=list[BaseException])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def work(self) -> None:
        while (task := self._next()) is not None:
            try:
                task()
            except BaseException as exc:  # noqa: BLE001 - raised again where the work was asked for
                self.failures.append(exc)

    def _next(self) -> Task | None:
        with self._lock, suppress(StopIteration):
            if self.failures:
                return None
            if self.stop():
                self.failures.append(StoppedError("staging was stopped"))
                return None
            try:
                return next(self.tasks)
            except StopIteration:
                raise
            except BaseException as exc:  # noqa: BLE001 - as above
                self.failures.append(exc)
        return None


def _once(wanted: Sequence[ManifestObject]) -> Iterator[ManifestObject]:
    """Each object once, though several names may have it."""
    seen: set[str] = set()
    for one in wanted:
        if one.digest not in seen:
            seen.add(one.digest)
            yield one
