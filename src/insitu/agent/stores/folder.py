"""A folder of this machine as a store: a disk, an NFS mount."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from insitu.agent.stores import meaning
from insitu.agent.stores.contract import (
    Buffer,
    ObjectInfo,
    ObjectMissingError,
    Progress,
    Reuse,
    StoreError,
    StoreListError,
    StoreReadError,
    StoreUnreachableError,
    StoreWriteError,
    told_nobody,
)

_PIECE = 1 << 20


class FolderStore:
    """Regular files below `root`. Links are followed only as far as they stay inside."""

    kind = "folder"
    reuses = True

    def __init__(self, root: Path) -> None:
        self._root = root

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        if not self._root.is_dir():
            raise StoreUnreachableError(
                f"there is no folder {self._root}", hint="is the disk or the network share mounted?"
            )
        above = prefix.rpartition("/")[0]
        top = self._root / above if above else self._root
        if ".." in PurePosixPath(prefix).parts or not top.is_dir():
            return
        yield from self._below(top, f"{above}/" if above else "", prefix)

    def _below(self, folder: Path, names: str, prefix: str) -> Iterator[ObjectInfo]:
        pending = [(str(folder), names)]
        real_root = self._root.resolve()
        while pending:
            path, before = pending.pop()
            try:
                entries = sorted(os.scandir(path), key=lambda entry: entry.name)
            except OSError as exc:
                raise StoreListError(
                    f"could not list {path}", code="store-list-denied", why=exc.strerror or "", hint=_RIGHTS
                ) from None
            for entry in entries:
                name = before + entry.name
                if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(real_root):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if name.startswith(prefix) or prefix.startswith(f"{name}/"):
                        pending.append((entry.path, f"{name}/"))
                elif name.startswith(prefix) and entry.is_file():
                    yield _info(name, entry.stat())

    def describe(self, name: str) -> ObjectInfo:
        with _named(name):
            return _info(name, self._path(name).stat())

    def read(self, name: str, start: int, length: int, *, etag: str = "") -> Buffer:
        if not length:
            return b""
        with _named(name):
            descriptor = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                found = _info(name, os.fstat(descriptor))
                data = os.pread(descriptor, length, start)
            finally:
                os.close(descriptor)
        if (etag and found.etag != etag) or len(data) != length:
            raise meaning.changed(name)
        return data

    def stream(
        self, name: str, *, start: int = 0, length: int | None = None, etag: str = "", reuse: Reuse | None = None
    ) -> Iterator[Buffer]:
        with _named(name), self._path(name).open("rb", buffering=0) as file:
            before = _info(name, os.fstat(file.fileno()))
            if etag and before.etag != etag:
                raise meaning.changed(name)
            file.seek(start)
            left = before.size_bytes if length is None else length
            while left > 0 and (data := _piece(file, left, reuse)):
                yield data
                left -= len(data)
            if _info(name, os.fstat(file.fileno())).etag != before.etag:
                raise meaning.changed(name)

    def write(self, name: str, source: Path, *, progress: Progress = told_nobody) -> ObjectInfo:
        if not self._root.is_dir():
            raise StoreUnreachableError(f"there is no folder {self._root}", hint="is it mounted?")
        target = self._path(name)
        work = target.with_name(f".{target.name[:200]}.{os.getpid()}.new")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with source.open("rb") as stream, work.open("wb") as out:
                    while data := stream.read(_PIECE):
                        out.write(data)
                        progress(len(data))
                work.replace(target)
            finally:
                work.unlink(missing_ok=True)
        except OSError as exc:
            full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
            raise StoreWriteError(
                f"could not write {name} into {self._root}",
                code="store-full" if full else "store-write",
                why=exc.strerror or "",
                hint="free some space" if full else _RIGHTS,
            ) from None
        return _info(name, target.stat())

    def close(self) -> None:
        pass

    def _path(self, name: str) -> Path:
        parts = PurePosixPath(name)
        path = self._root / parts
        if parts.is_absolute() or ".." in parts.parts or not path.resolve().is_relative_to(self._root.resolve()):
            raise ObjectMissingError(f"{name!r} leads outside of the store")
        return path


_RIGHTS = "the agent's user needs the right to it; see `ls -ld` of the folder"


def _piece(file: io.FileIO, left: int, reuse: Reuse | None) -> Buffer:
    if reuse is None:
        return file.read(min(_PIECE, left))
    return reuse.buffer[: file.readinto(reuse.buffer[:left])]


def _info(name: str, found: os.stat_result) -> ObjectInfo:
    if not stat.S_ISREG(found.st_mode):
        raise ObjectMissingError(f"{name!r} is no file")
    etag = f"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}"
    return ObjectInfo(name, found.st_size, etag, datetime.fromtimestamp(found.st_mtime, UTC))


@contextmanager
def _named(name: str) -> Iterator[None]:
    """What the system says of a file, as the contract's errors."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise ObjectMissingError(f"there is no object {name!r}", hint="it was removed or renamed") from None
    except OSError as exc:
        raise _unreadable(name, exc) from None


def _unreadable(name: str, exc: OSError) -> StoreError:
    denied = exc.errno in (errno.EACCES, errno.EPERM)
    return StoreReadError(
        f"could not read {name}",
        code="store-read-denied" if denied else "store-read",
        why=exc.strerror or "",
        hint=_RIGHTS if denied else "is the disk or the network share still there?",
    )
