"""Blobs from the hub to an agent and back, against bare TCP over loopback.

Ours is what an agent does: a blob that a job names, asked for and sent as this site,
from the hub's disk; on arrival it is on disk and its digest is checked. The hub
puts what it gets onto its disk for good (fsync) before it answers.

The bytes alone are a figure of their own, and the one that the goal is about: moving them. A hub that takes a body has
its server and its way of taking it then, but nothing behind it (`taker`).

Three references, each one socket between two processes that blocks in plain `send` and `recv`, a mebibyte at a time,
which is the fastest of the sizes tried (64 KiB: 0.7 of it; sendfile: 0.8):

    bare TCP                        the same file is read and sent, received into one buffer and thrown away
    bare TCP, one hot mebibyte      the same mebibyte is sent again and again: it never leaves the processor's
                                    cache. No file moves as fast; it shows how far off the socket's own limit is
    bare TCP, to disk and hashed    the first one, with what we do on arrival: SHA-256 on a thread beside, a file, fsync
                                    where the hub does it. A digest alone costs 0.8 s a gigabyte of one core

What arrived is removed before the next comes, by all of them: memory that a guest system has not used before costs
more than all else here (a file of 240 MiB 0.6 s, where one in memory that was used before takes 0.13 s).
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.figures import Goal, Row, in_turns, seconds
from benchmarks.programs import ended_by_pid, free_port
from benchmarks.scene import Scene, wait_until_it_answers
from benchmarks.speaking_site import SpeakingSite
from insitu.agent.hub_connections import OpenConnections
from insitu.domain.digests import Digest, digest_of_file
from insitu.domain.errors import UnreachableError
from insitu.domain.running_digest import PieceBuffers, RunningDigest

_ROUNDS = 9
_BYTES = 240 << 20  # a code snapshot may have 256 MiB, and nothing larger is asked for by name
_QUICK_BYTES = 64 << 20
_PIECE = 1 << 20
_GOAL = Goal(at_least=0.7)
_BARE, _HOT = "bare TCP", "bare TCP, one hot mebibyte"
_DUTIES, _SYNCED = "bare TCP, to disk and hashed", "bare TCP, to disk and hashed, fsync"


def measure(scene: Scene) -> Iterator[Row]:
    size = _QUICK_BYTES if scene.quick else _BYTES
    site = SpeakingSite(scene, "bulk")
    folder = scene.fresh_folder("transfer")
    blob = _blob_of(site, scene.fresh_folder("job"), size)
    file = _fresh_file(scene.fresh_folder("bare"), size)
    bare = _Tcp(file, folder / "tcp")
    rates = _Rates(size, scene.rounds(_ROUNDS))
    taker = _taker(scene)
    target = folder / "blob"
    yield rates.row("hub → agent, the bytes alone", lambda: _read(site, blob), bare.moved, _BARE, _GOAL)
    yield rates.row("… the same", lambda: _read(site, blob), bare.hot, _HOT)
    yield rates.row("hub → agent, on disk and checked", lambda: _fetch(site, blob, target), bare.kept, _DUTIES, _GOAL)
    yield rates.row("… the same", lambda: _fetch(site, blob, target), bare.moved, _BARE)
    yield rates.row("agent → hub, the bytes alone", lambda: _send(taker, file), bare.moved, _BARE, _GOAL)
    yield rates.row("… the same", lambda: _send(taker, file), bare.hot, _HOT)
    files = iter(lambda: _fresh_file(folder, size), None)
    yield rates.row("agent → hub, on disk and checked", lambda: _upload(site, next(files)), bare.synced, _SYNCED, _GOAL)
    yield rates.row("… the same", lambda: _upload(site, next(files)), bare.moved, _BARE)


class _Rates:
    """Rows of megabytes a second."""

    def __init__(self, size_bytes: int, rounds: int) -> None:
        self._size, self._rounds = size_bytes, rounds

    def row(
        self,
        figure: str,
        ours: Callable[[], float],
        theirs: Callable[[], float],
        against: str,
        goal: Goal | None = None,
    ) -> Row:
        mine, other = in_turns(self._rounds, ours, theirs)
        rates = tuple(self._size / 1e6 / took_s for took_s in mine)
        return Row(figure, "MB/s", rates, against, tuple(self._size / 1e6 / took_s for took_s in other), goal)


def _taker(scene: Scene) -> OpenConnections:
    """Connections of an agent to a hub that throws away."""
    folder, port = scene.fresh_folder("taker"), free_port()
    url, log = f"http://127.0.0.1:{port}", folder / "log.txt"
    process = scene.enter(ended_by_pid([sys.executable, "-m", "benchmarks.taker", str(port), str(folder)], log=log))
    wait_until_it_answers(url, process, log, timeout_s=30.0)
    made = OpenConnections(
        urlsplit(url), ssl.create_default_context(), lambda exc: UnreachableError("the taker is gone", why=str(exc))
    )
    scene.on_end(made.close)
    return made


def _blob_of(site: SpeakingSite, folder: Path, size_bytes: int) -> Digest:
    """A job's code that is as large as that: its digest."""
    _fresh_file(folder, size_bytes)
    envelope = site.take_job(folder).envelope
    return Digest(json.loads(b64decode(envelope.payload))["code"])


def _fresh_file(folder: Path, size_bytes: int) -> Path:
    """Other bytes each time: the hub does not take what it has. On the disk, so that no later fsync waits for them."""
    path = folder / "bytes"
    with path.open("wb") as file:
        for _ in range(size_bytes // _PIECE):
            file.write(os.urandom(_PIECE))
        file.flush()
        os.fsync(file.fileno())
    return path


def _read(site: SpeakingSite, blob: Digest) -> float:
    buffer = memoryview(bytearray(_PIECE))

    def read() -> None:
        with site.link.open_blob(blob) as incoming:
            while incoming.readinto(buffer):
                pass

    return seconds(read)


def _fetch(site: SpeakingSite, blob: Digest, target: Path) -> float:
    took_s = seconds(lambda: site.link.fetch_blob(blob, target))
    target.unlink()
    return took_s


def _upload(site: SpeakingSite, path: Path) -> float:
    digest = digest_of_file(path)
    took_s = seconds(lambda: site.link.upload(path, digest))
    site.kept_at_the_hub(digest).unlink()
    return took_s


def _send(taker: OpenConnections, path: Path) -> float:
    def send() -> None:
        with path.open("rb") as file:
            status, _ = taker.send_file("/", {}, file, 0, path.stat().st_size)
        if status >= 300:
            raise RuntimeError(f"the taker answered {status}")

    return seconds(send)


class _Tcp:
    """One socket between two processes, and nothing else."""

    def __init__(self, source: Path, target: Path) -> None:
        self._source, self._target = source, target
        self._size = source.stat().st_size

    def moved(self) -> float:
        return self._thrown_away(self._send_file)

    def hot(self) -> float:
        return self._thrown_away(self._send_one_piece)

    def kept(self) -> float:
        return self._to_disk(sync=False)

    def synced(self) -> float:
        return self._to_disk(sync=True)

    def _to_disk(self, *, sync: bool) -> float:
        try:
            return self._kept(sync=sync)
        finally:
            self._target.unlink()

    def _kept(self, *, sync: bool) -> float:
        with self._target.open("wb", buffering=0) as file, RunningDigest() as running:
            buffers = PieceBuffers(_PIECE)

            def keep(connection: socket.socket) -> int:
                data = buffers.filled_by(connection.recv_into)
                running.update(data)
                return file.write(data)

            took_s = self._received(self._send_file, keep)
            return took_s + seconds(lambda: (running.digest(), os.fsync(file.fileno()) if sync else None))

    def _thrown_away(self, send: Callable[[socket.socket], None]) -> float:
        buffer = memoryview(bytearray(_PIECE))
        return self._received(send, lambda connection: connection.recv_into(buffer))

    def _received(self, send: Callable[[socket.socket], None], take: Callable[[socket.socket], int]) -> float:
        """
        Args:
            take: the next bytes, and says how many; until all are here.
        """
        with socket.create_server(("127.0.0.1", 0)) as listening:
            sender = os.fork()
            if sender == 0:
                _send_and_end(listening.getsockname()[1], send)
            connection, _ = listening.accept()
        with connection:

            def take_all() -> None:
                left = self._size
                while left:
                    left -= take(connection)

            took_s = seconds(take_all)
        os.waitpid(sender, 0)
        return took_s

    def _send_file(self, connection: socket.socket) -> None:
        buffer = memoryview(bytearray(_PIECE))
        with self._source.open("rb", buffering=0) as file:
            while filled := file.readinto(buffer):
                connection.sendall(buffer[:filled])

    def _send_one_piece(self, connection: socket.socket) -> None:
        piece = os.urandom(_PIECE)
        for _ in range(self._size // _PIECE):
            connection.sendall(piece)


def _send_and_end(port: int, send: Callable[[socket.socket], None]) -> None:
    try:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            send(connection)
    finally:
        os._exit(0)
