"""Blobs from the hub to an agent and back, against bare TCP over loopback.

Ours is what an agent does: a blob that a job names, asked for and sent as this site,
from the hub's disk; on arrival it is on disk and its digest is checked. The hub
puts what it gets onto its disk for good (fsync) before it answers. The reference
sends the same number of bytes from memory through one socket, and throws them away.

The bytes alone are a figure of their own: moving them is what the goal is about,
while a digest costs its 0.8 s a gigabyte of one core, whatever moves them.
"""

from __future__ import annotations

import json
import os
import socket
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.figures import Goal, Row, in_turns, seconds
from benchmarks.scene import Scene
from benchmarks.speaking_site import SpeakingSite
from insitu.domain.digests import Digest, digest_of_file
from insitu.domain.running_digest import AHEAD, RunningDigest

_ROUNDS = 7
_BYTES = 240 << 20  # a code snapshot may have 256 MiB, and nothing larger is asked for by name
_QUICK_BYTES = 64 << 20
_PIECE = 1 << 20
_GOAL = Goal(at_least=0.7)
_BARE = "bare TCP, thrown away"
_DUTIES = "bare TCP, to disk and hashed"


def measure(scene: Scene) -> Iterator[Row]:
    size = _QUICK_BYTES if scene.quick else _BYTES
    site = SpeakingSite(scene, "bulk")
    folder = scene.fresh_folder("transfer")
    blob = _blob_of(site, scene.fresh_folder("job"), size)
    target = folder / "blob"
    down = _Rates(size, scene)
    yield down.row("hub → agent, the bytes alone", lambda: _read(site, blob), _bare_tcp, _BARE, _GOAL)
    yield down.row("hub → agent, on disk and checked", lambda: _fetch(site, blob, target), _bare_tcp, _BARE, _GOAL)
    to_disk = folder / "tcp"
    yield down.row(
        "… the same",
        lambda: _fetch(site, blob, target),
        lambda count: _tcp_to_disk(count, to_disk, sync=False),
        _DUTIES,
    )
    files = iter(lambda: _fresh_file(folder, size), None)
    up = _Rates(size, scene)
    yield up.row("agent → hub, on disk and checked", lambda: _upload(site, next(files)), _bare_tcp, _BARE, _GOAL)
    yield up.row(
        "… the same",
        lambda: _upload(site, next(files)),
        lambda count: _tcp_to_disk(count, to_disk, sync=True),
        _DUTIES + ", fsync",
    )


class _Rates:
    """Rows of megabytes a second."""

    def __init__(self, size_bytes: int, scene: Scene) -> None:
        self._size, self._rounds = size_bytes, scene.rounds(_ROUNDS)

    def row(
        self,
        figure: str,
        ours: Callable[[], float],
        theirs: Callable[[int], float],
        against: str,
        goal: Goal | None = None,
    ) -> Row:
        mine, other = in_turns(self._rounds, ours, lambda: theirs(self._size))
        rates = tuple(self._size / 1e6 / took_s for took_s in mine)
        return Row(figure, "MB/s", rates, against, tuple(self._size / 1e6 / took_s for took_s in other), goal)


def _blob_of(site: SpeakingSite, folder: Path, size_bytes: int) -> Digest:
    """A job's code that is as large as that: its digest."""
    _fresh_file(folder, size_bytes)
    envelope = site.take_job(folder).envelope
    return Digest(json.loads(b64decode(envelope.payload))["code"])


def _fresh_file(folder: Path, size_bytes: int) -> Path:
    """Other bytes each time: the hub does not take what it has."""
    path = folder / "bytes"
    with path.open("wb") as file:
        for _ in range(size_bytes // _PIECE):
            file.write(os.urandom(_PIECE))
    return path


def _read(site: SpeakingSite, blob: Digest) -> float:
    buffer = memoryview(bytearray(_PIECE))

    def read() -> None:
        with site.link.open_blob(blob) as incoming:
            while incoming.readinto(buffer):
                pass

    return seconds(read)


def _fetch(site: SpeakingSite, blob: Digest, target: Path) -> float:
    target.unlink(missing_ok=True)
    return seconds(lambda: site.link.fetch_blob(blob, target))


def _upload(site: SpeakingSite, path: Path) -> float:
    digest = digest_of_file(path)
    return seconds(lambda: site.link.upload(path, digest))


def _bare_tcp(size_bytes: int) -> float:
    return _tcp(size_bytes, lambda _: None)


def _tcp_to_disk(size_bytes: int, path: Path, *, sync: bool) -> float:
    path.unlink(missing_ok=True)
    with path.open("wb", buffering=0) as file, RunningDigest() as running:

        def keep(data: memoryview) -> None:
            running.update(data)
            file.write(data)

        took_s = _tcp(size_bytes, keep)
        return took_s + seconds(lambda: (running.digest(), os.fsync(file.fileno()) if sync else None))


def _tcp(size_bytes: int, sink: Callable[[memoryview], object]) -> float:
    """Send from another process, take here; nothing but the sockets."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        sender = os.fork()
        if sender == 0:
            _send_and_end(listening.getsockname()[1], size_bytes)
        connection, _ = listening.accept()
    buffers = [memoryview(bytearray(_PIECE)) for _ in range(AHEAD + 2)]
    with connection:

        def take() -> None:
            turn = left = 0
            left = size_bytes
            while left:
                buffer = buffers[turn % len(buffers)]
                filled = connection.recv_into(buffer)
                sink(buffer[:filled])
                left -= filled
                turn += 1

        took_s = seconds(take)
    os.waitpid(sender, 0)
    return took_s


def _send_and_end(port: int, size_bytes: int) -> None:
    try:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            piece = bytes(_PIECE)
            for _ in range(size_bytes // _PIECE):
                connection.sendall(piece)
    finally:
        os._exit(0)
