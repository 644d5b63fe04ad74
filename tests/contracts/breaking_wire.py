"""A wire between an agent and a hub that breaks after so many bytes, as slow and long ones do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class BreakingWire:
    """Relays each connection until `most_bytes` went in one direction; then it is cut. None: it holds."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.most_bytes: int | None = None
        self.broken = 0
        self.carried = 0

    def serve(self) -> None:
        while True:
            try:
                inner, _ = self._listening.accept()
            except OSError:
                return
            outer = socket.create_connection(("127.0.0.1", self._port))
            self._ends += [inner, outer]
            for source, sink in ((inner, outer), (outer, inner)):
                thread = threading.Thread(target=self._relay, args=(source, sink))
                self._threads.append(thread)
                thread.start()

    def hang_up(self) -> None:
        _shut(self._listening)
        self._listening.close()

    def end(self) -> None:
        for end in self._ends:
            _shut(end)
        for thread in self._threads:
            thread.join(10)
        for end in self._ends:
            end.close()

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        went = 0
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if self.most_bytes is not None and went + len(data) > self.most_bytes:
                    sink.sendall(data[: self.most_bytes - went])
                    self.broken += 1
                    break
                sink.sendall(data)
                went += len(data)
                self.carried += len(data)
        for end in (source, sink):
            _shut(end)


def _shut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@contextmanager
def breaking_wire(port: int) -> Iterator[BreakingWire]:
    wire = BreakingWire(port)
    thread = threading.Thread(target=wire.serve, daemon=True)
    thread.start()
    try:
        yield wire
    finally:
        wire.hang_up()
        thread.join(10)
        wire.end()
