"""Blobs to and from the hub: in one stream each, resumed after a break, checked by digest before they count.

A download grows in `.<name>.part` beside its target. Whoever finds one goes on at
its end; the digest is of everything in it, so a part that was damaged is found
out, thrown away, and fetched anew. Hashing runs beside the transfer.

Nothing here knows HTTP beyond ranges and their statuses (RFC 9110, 14).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from insitu.agent.hub_connections import Incoming
from insitu.domain.digests import Digest, digest_of_file
from insitu.domain.errors import ConflictError, IntegrityError, UnreachableError
from insitu.domain.running_digest import PieceBuffers, RunningDigest

RANGE_BEYOND_THE_END = 416
_PARTIAL = 206
_BUFFER = 1 << 20  # bytes
_PAUSES_S = (15.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05)  # the last one first
_LOOKS_AFTER_S = (0.0, 0.05, 0.2, 1.0)
"""How long a broken upload waits before it looks again at how far it has come."""

OpenAt = Callable[[int], AbstractContextManager[Incoming]]


# -- down --------------------------------------------------------------------------------------------------------------


def download(open_at: OpenAt, digest: Digest, target: Path) -> None:
    """Fetch a blob into `target`, which appears only when it is whole and has its digest.

    Args:
        open_at: asks for the blob from that byte on.

    Raises:
        IntegrityError: what came from the first byte to the last is something else. It is not kept.
        UnreachableError: it broke off twice without a byte between. What came is kept for the next try.
    """
    path = target.with_name(f".{target.name}.part")
    while (part := _open_part(path)) is None:
        if target.exists() and digest_of_file(target) == digest:
            return  # another has fetched it meanwhile
    with part:
        resumed = part.seek(0, os.SEEK_END) > 0
        actual = _fetch(open_at, part)
        if actual != digest and resumed:
            # The part of an earlier try may have been damaged: what comes in one go is the hub's word.
            part.truncate(0)
            actual = _fetch(open_at, part)
        if actual != digest:
            path.unlink()
            raise IntegrityError(
                "what the hub sent is not what was signed",
                code="blob-digest",
                why=f"asked for {digest}",
                hint="submit the job again; if it happens twice, the hub's store is damaged",
            )
        path.replace(target)


def _open_part(path: Path) -> FileIO | None:
    """The part of a download, held for one at a time. None: another held it, and is done with it."""
    part = FileIO(path, "a+")
    fcntl.flock(part, fcntl.LOCK_EX)
    if path.exists() and path.stat().st_ino == os.fstat(part.fileno()).st_ino:
        return part
    part.close()
    return None


def _fetch(open_at: OpenAt, part: FileIO) -> Digest:
    """Bring the part to its end; the digest of all of it."""
    with RunningDigest() as running:
        buffers = PieceBuffers(_BUFFER)
        part.seek(0)
        while data := buffers.filled_by(part.readinto):
            running.update(data)
        while True:
            begun_at = part.seek(0, os.SEEK_END)
            try:
                with open_at(begun_at) as incoming:
                    if not _goes_on(incoming, begun_at):  # ranges are not for everybody between here and the hub
                        part.truncate(0)
                        running.restart()
                    for data in _data(incoming, buffers):
                        _write(part, data)
                        running.update(data)
                return running.digest()
            except UnreachableError:
                if part.seek(0, os.SEEK_END) <= begun_at:
                    raise


def _goes_on(incoming: Incoming, have: int) -> bool:
    """Whether the answer begins where the part ends, and not at the first byte.

    Raises:
        IntegrityError: it does neither.
    """
    if incoming.status == RANGE_BEYOND_THE_END:  # there is no more than what is here
        return True
    if incoming.status != _PARTIAL:
        return have == 0
    if not incoming.header("Content-Range").startswith(f"bytes {have}-"):
        raise IntegrityError("the hub sent another part of a blob than it was asked for", code="blob-range")
    return True


def _write(part: FileIO, data: memoryview) -> None:
    while data:
        data = data[part.write(data) :]


def _data(incoming: Incoming, buffers: PieceBuffers) -> Iterator[memoryview]:
    if incoming.status == RANGE_BEYOND_THE_END:
        return
    announced = incoming.header("Content-Length")
    left = int(announced) if announced else None
    while left != 0:
        data = buffers.filled_by(lambda buffer, left=left: incoming.readinto(buffer[:left]))
        if not data and left is None:
            return
        if not data:
            raise UnreachableError("the hub hung up in the middle of a blob", code="hub-unreachable")
        left = None if left is None else left - len(data)
        yield data


# -- up ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Standing:
    """How much of an upload the hub has."""

    offset: int
    complete: bool


@dataclass(frozen=True)
class Upload:
    """One upload at the hub, by its digest.

    Args:
        stands: asks where it stands.
        send: sends a file from an offset to its end, and is told its size.
        pause: waits for so many seconds.
    """

    stands: Callable[[], Standing]
    send: Callable[[BinaryIO, int, int], None]
    pause: Callable[[float], None] = time.sleep

    def finish(self, file: BinaryIO) -> None:
        """Send what is missing until the hub has it all. Goes on where an earlier try stopped, or another of ours is.

        Raises:
            UnreachableError: it broke off twice without a byte between.
            IntegrityError: the hub got something else than the digest says.
        """
        size = os.fstat(file.fileno()).st_size
        standing = self.stands()
        damaged, pauses = False, list(_PAUSES_S)
        while not standing.complete:
            try:
                self.send(file, min(standing.offset, size), size)
                return
            except IntegrityError:
                # What lay there from an earlier try was not of this file; the hub dropped it.
                if damaged or not standing.offset:
                    raise
                damaged = True
            except ConflictError as exc:
                if exc.code == "upload-busy" and pauses:
                    # The hub has not noticed yet that the connection before broke.
                    self.pause(pauses.pop())
                elif not self._moved_on(standing):
                    raise
            except UnreachableError:
                if not self._moves_on(standing):
                    raise
            standing = self.stands()

    def _moves_on(self, since: Standing) -> bool:
        """Also a little later: what came before the wire broke may still be on its way through a busy hub."""
        for wait_s in _LOOKS_AFTER_S:
            self.pause(wait_s)
            if self._moved_on(since):
                return True
        return False

    def _moved_on(self, since: Standing) -> bool:
        now = self.stands()
        return now.complete or now.offset > since.offset
