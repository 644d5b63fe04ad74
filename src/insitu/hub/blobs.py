"""Content-addressed bytes, as files under `blobs/sha256/<two digits>/<digest>`.

A file appears under its name only when it is whole, has that digest and is on
disk; one that is there is never written again. Uploads of agents grow in files of
their own, in pieces with offsets (the semantics of tus.io: a wrong offset changes
nothing), so that a slow link starts again where it stopped.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from insitu.domain.digests import Digest, digest_of_file
from insitu.domain.errors import ConflictError, InsituError, IntegrityError, InvalidInputError, UnavailableError
from insitu.domain.running_digest import RunningDigest
from insitu.wire.releases import ReleasedFile

_LEFT_BEHIND_S = 86400.0
_STRETCH = 8 << 20  # bytes that go to the disk together, while the next ones arrive


class OffsetError(ConflictError):
    """A piece of an upload came for another place than where the upload stands."""

    default_code = "wrong-offset"

    def __init__(self, offset: int) -> None:
        super().__init__(
            "this piece does not follow on what the hub has",
            why=f"the upload stands at byte {offset}",
            hint="ask for the offset, then send from there",
        )
        self.offset = offset


class Blobs:
    """The files of one hub."""

    def __init__(self, root: Path, uploads: Path, *, max_bytes: int) -> None:
        self._root = root
        self._uploads = uploads
        self._max_bytes = max_bytes
        self._incoming = root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        self._uploads.mkdir(parents=True, exist_ok=True)
        self._sweep()

    def _sweep(self) -> None:
        """Remove what a crash left half written. Another hub process may be writing what is younger than a day."""
        for left in self._incoming.iterdir():
            if time.time() - left.lstat().st_mtime > _LEFT_BEHIND_S:
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)

    def path(self, digest: Digest) -> Path:
        name = digest.removeprefix("sha256:")
        return self._root / "sha256" / name[:2] / name

    def size(self, digest: Digest) -> int | None:
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    @contextmanager
    def incoming(self, digest: Digest) -> Iterator[IncomingBlob]:
        """Take in a blob from its first byte to its last; without `finish` nothing is kept."""
        path = self._incoming / secrets.token_hex(16)
        with _explained(), path.open("wb") as stream, RunningDigest() as running:
            try:
                yield IncomingBlob(self, digest, path, stream, running, self._max_bytes)
            finally:
                path.unlink(missing_ok=True)

    def move_in(self, path: Path, digest: Digest) -> None:
        """Give a file that was checked and synced its name. One that is there stays."""
        place = self.path(digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)
        for folder in (place.parent, place.parent.parent):
            _sync_folder(folder)

    @contextmanager
    def folder_of(self, files: Sequence[ReleasedFile]) -> Iterator[Path]:
        """A folder with these files under their paths, for as long as the block lasts.

        Links to the blobs, not copies: whoever reads them must not write them.
        """
        folder = self._incoming / f"folder-{secrets.token_hex(16)}"
        try:
            for file in files:
                place = folder / file.path
                place.parent.mkdir(parents=True, exist_ok=True)
                os.link(self.path(Digest(file.digest)), place)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    # -- in pieces -----------------------------------------------------------------------------------------------------

    def offset(self, site: str, digest: Digest) -> int:
        """How many bytes of a site's upload are here."""
        try:
            return self._partial(site, digest).stat().st_size
        except FileNotFoundError:
            return 0

    def is_whole(self, site: str, digest: Digest) -> bool:
        """Whether what is here of an upload has its digest already. Reads all of it."""
        try:
            return digest_of_file(self._partial(site, digest)) == digest
        except FileNotFoundError:
            return False

    @contextmanager
    def piece(self, site: str, digest: Digest, *, offset: int, length: int) -> Iterator[Piece]:
        """Take in the next piece of an upload of `length` bytes in all.

        Raises:
            OffsetError: the upload stands elsewhere.
            ConflictError: another request is writing it.
            InvalidInputError: it would be larger than anything may be.
        """
        if length > self._max_bytes:
            raise _too_large(length, self._max_bytes)
        path = self._partial(site, digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _explained(), path.open("ab", buffering=0) as stream, RunningDigest() as running:
            _lock(stream, path)
            stands = stream.seek(0, os.SEEK_END)
            if stands != offset or offset > length:
                raise OffsetError(stands)
            piece = Piece(stream, length, running, lambda actual: self._name(path, digest, actual))
            try:
                yield piece
            finally:
                # What came before a broken connection is kept: that is what resuming is for.
                piece.sync()

    def complete(self, site: str, digest: Digest) -> int:
        """Check an upload that has all its bytes and make it a blob; returns its size.

        Raises:
            IntegrityError: the bytes are not what the digest says. They are dropped.
        """
        path = self._partial(site, digest)
        with _explained(), path.open("ab") as stream:
            _lock(stream, path)
            size = path.stat().st_size
            self._name(path, digest, digest_of_file(path))
        return size

    def _name(self, path: Path, digest: Digest, actual: Digest) -> None:
        if actual != digest:
            path.unlink()
            raise _wrong_digest(digest, actual)
        self.move_in(path, digest)

    def _partial(self, site: str, digest: Digest) -> Path:
        return self._uploads / site / digest.removeprefix("sha256:")


class IncomingBlob:
    """Bytes on their way in: hashed as they are written."""

    def __init__(
        self, blobs: Blobs, digest: Digest, path: Path, stream: BinaryIO, running: RunningDigest, max_bytes: int
    ) -> None:
        self._blobs = blobs
        self._digest = digest
        self._path = path
        self._stream = stream
        self._max_bytes = max_bytes
        self._running = running
        self._disk = _OnItsWay(stream.fileno(), 0)
        self.size_bytes = 0

    def write(self, data: bytes | memoryview) -> None:
        self.size_bytes += len(data)
        if self.size_bytes > self._max_bytes:
            raise _too_large(self.size_bytes, self._max_bytes)
        self._running.update(data)
        self._stream.write(data)
        self._disk.reached(self.size_bytes)

    def finish(self) -> None:
        """Check the digest and keep the blob.

        Raises:
            IntegrityError: the bytes are not what the digest says.
        """
        actual = self._running.digest()
        if actual != self._digest:
            raise _wrong_digest(self._digest, actual)
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._blobs.move_in(self._path, self._digest)


class Piece:
    """The next bytes of an upload; what would run past its end is refused. Hashed as they come, if it is the first."""

    def __init__(self, stream: FileIO, length: int, running: RunningDigest, name: Callable[[Digest], None]) -> None:
        self._stream = stream
        self._length = length
        self._running = running
        self._name = name
        self._synced = True
        self._from_start = stream.tell() == 0
        self.offset = stream.tell()
        self._disk = _OnItsWay(stream.fileno(), self.offset)

    def write(self, data: bytes | memoryview) -> None:
        if self.offset + len(data) > self._length:
            raise InvalidInputError("more bytes came than the upload has", code="upload-length")
        if self._from_start:
            self._running.update(data)
        self._synced = False
        rest = memoryview(data)
        while rest:
            rest = rest[self._stream.write(rest) :]
        self.offset += len(data)
        self._disk.reached(self.offset)

    def sync(self) -> None:
        """Put what came onto the disk."""
        if not self._synced:
            os.fsync(self._stream.fileno())
            self._synced = True

    def finish(self) -> None:
        """Check the upload, which has all its bytes now, and make it a blob.

        While this piece holds the upload: nobody's bytes can come between check and name.

        Raises:
            IntegrityError: the bytes are not what the digest says. They are dropped.
        """
        self.sync()
        self._name(self._running.digest() if self._from_start else digest_of_file(Path(self._stream.name)))

    @property
    def is_last(self) -> bool:
        return self.offset == self._length


class _OnItsWay:
    """What was written of a file, sent to the disk while more arrives: the fsync at the end finds little left to wait for.

    Begins writing and does not wait for it (Linux does so before it lets go of pages that are not needed; Python has no
    `sync_file_range`). It promises nothing: that the bytes are there, fsync says.
    """

    def __init__(self, file: int, at: int) -> None:
        self._file, self._sent = file, at

    def reached(self, at: int) -> None:
        if at - self._sent >= _STRETCH:
            os.posix_fadvise(self._file, self._sent, at - self._sent, os.POSIX_FADV_DONTNEED)
            self._sent = at


def _lock(stream: FileIO | BinaryIO, path: Path) -> None:
    try:
        fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        raise _busy() from exc
    # It may have become a blob between opening and locking, which nobody may write.
    if not path.exists() or path.stat().st_ino != os.fstat(stream.fileno()).st_ino:
        raise _busy()


def _busy() -> ConflictError:
    return ConflictError("another request is writing this upload", code="upload-busy", hint="try again in a moment")


def _too_large(size: int, limit: int) -> InsituError:
    return InvalidInputError(
        "the blob is too large",
        code="blob-too-large",
        rule="max-blob-bytes",
        measure=f"{size} bytes",
        limit=f"{limit} bytes",
    )


def _wrong_digest(expected: str, actual: str) -> InsituError:
    return IntegrityError(
        "what was uploaded is not what its digest says",
        code="digest-mismatch",
        why=f"expected {expected}, found {actual}",
        hint="nothing of it was kept: upload it again from the start",
    )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise UnavailableError(
                "the hub's disk is full", code="disk-full", why="a blob could not be stored", hint="free some space"
            ) from exc
        raise
