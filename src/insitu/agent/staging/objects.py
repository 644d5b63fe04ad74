"""The cache's objects: private bytes by their keyed digest, each once, whoever's version they are part of.

    <cache>/objects/ab/ab12…          whole, verified, read-only
    <cache>/objects/ab/ab12….1-2.new  small ones while they are written
    <cache>/objects/partial/ab12…     large ones on their way; blocks in any order
    <cache>/views/<version>/…         hard links to objects, by name: what a job sees (`views`)

How many versions use an object is its number of links, which the disk keeps: one of
one link belongs to none, and can be removed.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from insitu.agent.staging.digests import Buffer

_READ_ONLY = 0o444
_UNFINISHED = ".new"
_PIECE = 128 << 10
"""Written at once: pieces of megabytes take the kernel three times as long (ext4, measured)."""


@dataclass(frozen=True)
class Objects:
    """Objects on the disk. Keeps nothing in memory; several threads may use it."""

    root: Path
    """The cache's own folder."""

    @property
    def folder(self) -> Path:
        return self.root / "objects"

    @property
    def partial(self) -> Path:
        return self.folder / "partial"

    def make(self) -> None:
        """Make the folders that objects come to lie in, closed to everybody else."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in ("partial", *(f"{number:02x}" for number in range(256))):
            with suppress(FileExistsError):
                (self.folder / name).mkdir(mode=0o700)

    def path(self, digest: str) -> Path:
        return Path(self.name(digest))

    def name(self, digest: str) -> str:
        """Its path, for those who need that of ten thousand: making a `Path` takes longer than to look it up."""
        return f"{self.root}/objects/{digest[:2]}/{digest}"

    def links(self, digest: str, size_bytes: int) -> int:
        """How many names an object has, its own included; 0 when it is not here whole."""
        try:
            found = os.stat(self.name(digest))  # noqa: PTH116 - as `name` says
        except FileNotFoundError:
            return 0
        return found.st_nlink if found.st_size == size_bytes else 0

    def put(self, digest: str, data: Buffer) -> None:
        """A small object, whole or not at all."""
        # In the folder that it will lie in: a folder takes one new file at a time, and in a single one for all objects
        # the workers would wait for each other. Each its own name, since equal objects come at once.
        target = self.name(digest)
        work = f"{target}.{os.getpid()}-{threading.get_ident()}{_UNFINISHED}"
        descriptor = os.open(work, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            write_all(descriptor, data, 0)
            os.fchmod(descriptor, _READ_ONLY)
        except BaseException:
            Path(work).unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        os.rename(work, target)  # noqa: PTH104 - as `name` says

    def adopt(self, work: Path, digest: str) -> None:
        """A large object that came together in `work`."""
        work.chmod(_READ_ONLY)
        work.rename(self.path(digest))

    def discard(self, digest: str) -> None:
        self.path(digest).unlink(missing_ok=True)

    def size_bytes(self) -> int:
        """What all of it takes, with what is on its way."""
        if not self.folder.exists():
            return 0
        size = 0
        for entry, is_whole in self._each():
            with suppress(FileNotFoundError):
                found = entry.stat()
                if stat.S_ISREG(found.st_mode):
                    size += found.st_size if is_whole else found.st_blocks * 512
        return size

    def sweep(self, keep: Collection[str]) -> None:
        """Remove what no version uses, but for the digests of what is on its way now."""
        for entry, is_whole in self._each():
            with suppress(FileNotFoundError):
                if entry.name.partition(".")[0] not in keep and (not is_whole or entry.stat().st_nlink == 1):
                    os.unlink(entry.path)  # noqa: PTH108 - as `name` says

    def _each(self) -> Iterator[tuple[os.DirEntry[str], bool]]:
        """Every object that is here, and whether it is whole or was only begun."""
        for room in os.scandir(self.folder):
            if room.is_dir():
                for entry in os.scandir(room.path):
                    yield entry, room.name != "partial" and not entry.name.endswith(_UNFINISHED)


def write_all(descriptor: int, data: Buffer, at: int) -> None:
    """Write all of `data` at a place of a file. A full disk may take a part of it first.

    Raises:
        OSError: the disk takes no more.
    """
    view = memoryview(data).cast("B")
    done = 0
    while done < len(view):
        done += os.pwrite(descriptor, view[done : done + _PIECE], at + done)
