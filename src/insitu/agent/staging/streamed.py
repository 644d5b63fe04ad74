"""Objects of a version that is not staged, as files to be read from the front: for the index of data larger than the disk.

Each block is read under the manifest's ETag and compared with its digest before anybody
sees it, so an index made of them is of the bytes that the version's digest names. A few
blocks are asked for ahead; that, and no more, is in memory. What has to be mapped (npy,
parquet) is brought to the disk one object at a time, without a name.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from insitu.agent.staging.digests import BLOCK_BYTES, Buffer, DigestKeys, blocks_of
from insitu.agent.staging.manifest import ManifestObject
from insitu.agent.stores.contract import ObjectStore
from insitu.agent.stores.meaning import changed

_AHEAD = 4  # blocks


@dataclass(frozen=True)
class StreamedFile:
    """One object. Serves as `gate.known.files.DataFile`."""

    store: ObjectStore
    keys: DigestKeys
    wanted: ManifestObject
    room: Path
    """A folder of the site's own, for what has to be mapped."""

    @property
    def name(self) -> str:
        return PurePosixPath(self.wanted.name).name

    def open(self, mode: str = "rb") -> BinaryIO:
        """A reader of its own; it may go back, at the cost of reading again."""
        assert mode == "rb", "objects are only read"
        return cast("BinaryIO", io.BufferedReader(_Reader(self), 1 << 16))

    def read_bytes(self) -> bytes:
        with self.open() as stream:
            return stream.read()

    @contextmanager
    def on_disk(self) -> Generator[Path]:
        """A real file with its bytes, gone when nothing has it open or mapped any more.

        Raises:
            OSError: the disk has no room for this one object.
        """
        with tempfile.TemporaryFile(dir=self.room) as copy:
            with self.open() as stream:
                while piece := stream.read(1 << 20):
                    copy.write(piece)
            copy.flush()
            yield Path(f"/proc/self/fd/{copy.fileno()}")

    def block(self, number: int) -> Buffer:
        """One block, verified.

        Raises:
            ObjectChangedError: the object is not the one that was listed.
            StoreError: the store could not be asked.
        """
        wanted, start = self.wanted, number * BLOCK_BYTES
        data = self.store.read(wanted.name, start, min(BLOCK_BYTES, wanted.size_bytes - start), etag=wanted.etag)
        digests = self.keys.under(wanted.scheme)
        leaf = digests.leaf_of(data)
        known = wanted.leaves[number] if wanted.leaves else None
        if leaf != known and digests.root_of(len(data), [leaf]) != wanted.digest:
            raise changed(wanted.name)
        return data


class _Reader(io.RawIOBase):
    """Blocks in their order, some asked for ahead."""

    def __init__(self, file: StreamedFile) -> None:
        self._file = file
        self._threads = ThreadPoolExecutor(_AHEAD, thread_name_prefix="read-ahead")
        self._coming: deque[Future[Buffer]] = deque()
        self._next = 0  # the block that is asked for next
        self._block = memoryview(b"")
        self._at = 0  # in the object

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.wanted.size_bytes}[whence]
        self._forget()
        self._at = max(0, min(start + offset, self._file.wanted.size_bytes))
        self._next = self._at // BLOCK_BYTES
        return self._at

    def readinto(self, buffer: object) -> int:
        if not self._block and self._at < self._file.wanted.size_bytes:
            self._take()
        target = memoryview(cast("bytearray", buffer)).cast("B")
        taken = min(len(target), len(self._block))
        target[:taken] = self._block[:taken]
        self._block = self._block[taken:]
        self._at += taken
        return taken

    def close(self) -> None:
        if not self.closed:
            self._forget()
            self._threads.shutdown(cancel_futures=True)
        super().close()

    def _take(self) -> None:
        """The block that `_at` is in."""
        while len(self._coming) < _AHEAD and self._next < blocks_of(self._file.wanted.size_bytes):
            self._coming.append(self._threads.submit(self._file.block, self._next))
            self._next += 1
        self._block = memoryview(self._coming.popleft().result()).cast("B")[self._at % BLOCK_BYTES :]

    def _forget(self) -> None:
        for one in self._coming:
            one.cancel()
        self._coming.clear()
        self._block = memoryview(b"")
