"""Stands between an agent and its hub, passes every byte on, and keeps a copy of each: what a wire would show.

It speaks no HTTP: bytes go through as they come, so that nothing is missed for being of a form that nobody thought of.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Recorded:
    """What went through, by direction; each connection's bytes stay together."""

    port: int
    sent: list[bytearray] = field(default_factory=list[bytearray])
    """By the agent."""
    answered: list[bytearray] = field(default_factory=list[bytearray])

    @property
    def all_sent(self) -> bytes:
        return b"\0".join(bytes(one) for one in self.sent)

    @property
    def all_answered(self) -> bytes:
        return b"\0".join(bytes(one) for one in self.answered)


@contextlib.contextmanager
def recording_proxy(target_port: int) -> Iterator[Recorded]:
    """A port on loopback that leads to another one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        recorded = Recorded(listener.getsockname()[1])
        ends: list[socket.socket] = []
        accepting = threading.Thread(target=_accept, args=(listener, target_port, recorded, ends), daemon=True)
        accepting.start()
        try:
            yield recorded
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for end in ends:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()


def _accept(listener: socket.socket, target_port: int, recorded: Recorded, ends: list[socket.socket]) -> None:
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        try:
            far = socket.create_connection(("127.0.0.1", target_port))
        except OSError:
            near.close()
            continue
        ends += [near, far]
        for source, sink, copies in ((near, far, recorded.sent), (far, near, recorded.answered)):
            copies.append(copy := bytearray())
            threading.Thread(target=_pass_on, args=(source, sink, copy), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket, copy: bytearray) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            copy += data
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
