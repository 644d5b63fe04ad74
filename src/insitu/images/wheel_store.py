"""Wheels by their hash: what a lock names, kept once, at a hub, at a site and at a desk.

    <root>/<two digits>/<sha256>/<filename>   a wheel; there only when it was whole and had that hash
    <root>/incoming/<sha256>                  one that is on its way: it grows, and goes on where it broke off

Names in a lock's other fields, addresses and versions, decide nothing: whatever has
the hash is the wheel. Each lies in a folder of its own, so that uv can be shown
exactly those that were chosen, always at the same path: then what uv has unpacked
is found again for the next lock.

Nothing is flushed one by one. A wheel that a power cut has emptied fails its hash
when it is used; `drop_damaged` removes it, and it is fetched again. Any number of
processes may use one store: a name appears by renaming.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from insitu.domain.digests import Digest, digest_of_file
from insitu.domain.errors import IntegrityError
from insitu.domain.images import LockedWheel
from insitu.images.locks import IndexSettings


@dataclass(frozen=True)
class WheelStore:
    root: Path

    def find(self, wheel: LockedWheel) -> Path | None:
        """The wheel's file under the name that the lock gives it."""
        path = self._folder(wheel.sha256) / wheel.filename
        if path.exists():
            return path
        other = self.by_sha256(wheel.sha256)
        return None if other is None else _second_name(other, path)

    def by_sha256(self, sha256: str) -> Path | None:
        """The file with that hash, whatever its name is."""
        return next(iter(sorted(self._folder(sha256).glob("*.whl"))), None)

    def lacking(self, wheels: Iterable[LockedWheel]) -> list[LockedWheel]:
        return [wheel for wheel in wheels if self.find(wheel) is None]

    def place(self, wheel: LockedWheel) -> Path:
        """Where the wheel belongs, for whoever puts it there whole and checked, by renaming."""
        path = self._folder(wheel.sha256) / wheel.filename
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def growing(self, wheel: LockedWheel) -> Iterator[BinaryIO]:
        """The wheel on its way, to be written on at its end; what is there stays for the next try.

        One writer at a time: a second waits, and then finds the first one's bytes, or the wheel in its place.
        """
        path = self.root / "incoming" / wheel.sha256
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield stream

    def take_in(self, wheel: LockedWheel) -> Path:
        """Give what has grown its name.

        Raises:
            IntegrityError: it has not the hash. It is removed, and nothing else changed.
        """
        return self.move_in(wheel, self.root / "incoming" / wheel.sha256)

    def move_in(self, wheel: LockedWheel, path: Path) -> Path:
        """Give a file on this disk its name in the store; it is gone from where it was.

        Raises:
            IntegrityError: it has not the hash. It is removed.
        """
        actual = digest_of_file(path)
        if actual != f"sha256:{wheel.sha256}":
            size = path.stat().st_size
            path.unlink()
            raise damaged(wheel, actual, size)
        place = self.place(wheel)
        path.chmod(0o644)
        path.replace(place)
        return place

    def put(self, wheel: LockedWheel, stream: BinaryIO) -> Path:
        """Copy a wheel in.

        Raises:
            IntegrityError: it has not the hash; nothing is kept.
        """
        path = self.room(wheel)
        try:
            with path.open("wb") as out:
                while piece := stream.read(1 << 20):
                    out.write(piece)
            return self.move_in(wheel, path)
        finally:
            path.unlink(missing_ok=True)

    def room(self, wheel: LockedWheel) -> Path:
        """A path of one's own on the store's disk, for bytes that `move_in` takes or nobody wants."""
        path = self.root / "incoming" / f"{wheel.sha256}-{secrets.token_hex(4)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def drop_damaged(self, wheels: Iterable[LockedWheel]) -> list[LockedWheel]:
        """Remove those whose bytes are no longer what their hash says; which they were."""
        dropped: list[LockedWheel] = []
        for wheel in wheels:
            path = self.find(wheel)
            if path is not None and digest_of_file(path) != f"sha256:{wheel.sha256}":
                for name in path.parent.iterdir():
                    name.unlink()
                dropped.append(wheel)
        return dropped

    def index(self, wheels: Sequence[LockedWheel]) -> IndexSettings:
        """What makes uv see these wheels and nothing else in the world."""
        return IndexSettings(no_index=True, find_links=tuple(str(self._folder(wheel.sha256)) for wheel in wheels))

    def _folder(self, sha256: str) -> Path:
        return self.root / sha256[:2] / sha256


def damaged(wheel: LockedWheel, actual: Digest, size_bytes: int) -> IntegrityError:
    return IntegrityError(
        f"{wheel.filename} is not what the lock says",
        code="wheel-hash",
        rule="hashed-wheels",
        measure=f"{actual}, {size_bytes} bytes",
        limit=f"sha256:{wheel.sha256}",
        hint="nothing of it was kept; fetch it again, and if it happens twice, where it comes from is damaged",
    )


def _second_name(path: Path, name: Path) -> Path:
    """The same bytes under another name: two indexes may call one file differently."""
    with suppress(FileExistsError):
        os.link(path, name)
    return name
