"""The agent's side door: a unix socket that the job never sees.

    keeper → b"streams" with two descriptors (SCM_RIGHTS)   ← {"streams": true}
    keeper → b"gate" with a listening socket                ← {"gate": true}
    agent  → {"op": "status"}                               ← {"status": {...}}
    agent  → {"op": "finish", "reason": "..."}              ← {"finished": last_seq}, then the process ends
                                                            ← {"seq": n} at once, and whenever it has grown

Whoever connects gets the last sequence number, so an agent that was killed and
comes back has missed nothing. `seq` is a level and not an edge: a slow reader
gets the newest number alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MAX_PEERS = 16
_MAX_LINE_BYTES = 64 << 10
_STREAMS, _GATE = b"streams", b"gate"


@dataclass(frozen=True)
class Orders:
    """What the control socket asks of the process."""

    streams: Callable[[tuple[int, int]], bool]  # False: they are known already
    gate: Callable[[int], bool]  # False: it is known already, or no socket that listens
    status: Callable[[], dict[str, Any]]
    finish: Callable[[str], None]  # answered by `ControlSocket.say_finished`
    seq: Callable[[], int]


class ControlSocket:
    """Listens, keeps peers, notifies them. Non-blocking, on the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, listener: socket.socket, orders: Orders) -> None:
        self.loop = loop
        self.orders = orders
        self._listener = listener
        self.peers: set[Peer] = set()
        self._due = False
        listener.settimeout(0)
        loop.add_reader(listener.fileno(), self._accept)

    def grown(self) -> None:
        """Tell every peer, once in this turn of the loop however often it is called."""
        if not self._due:
            self._due = True
            self.loop.call_soon(self._notify)

    def say_finished(self, last_seq: int, *, timeout_s: float) -> None:
        """The last word to every peer that asked for it; waits for the sockets to take it."""
        for peer in tuple(self.peers):
            if peer.wants_end:
                peer.say_and_close({"finished": last_seq}, timeout_s=timeout_s)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # gone again, or no descriptor left: the agent tries again
            return
        if len(self.peers) >= MAX_PEERS:
            connection.close()
            return
        peer = Peer(self, connection)
        self.peers.add(peer)
        peer.say_seq()

    def _notify(self) -> None:
        self._due = False
        for peer in tuple(self.peers):
            peer.say_seq()


class Peer:
    """One connection: of the agent, or of the sandbox's keeper."""

    def __init__(self, control: ControlSocket, connection: socket.socket) -> None:
        self._control = control
        self._connection = connection
        self._incoming = b""
        self._outgoing = b""
        self._behind = False  # `seq` grew while the peer was slow
        self._deaf = False  # it closed its end for reading: what it said before must be read all the same
        self.wants_end = False
        connection.settimeout(0)
        control.loop.add_reader(connection.fileno(), self._readable)

    def say_seq(self) -> None:
        if self._outgoing:
            self._behind = True
            return
        self._say({"seq": self._control.orders.seq()})

    def say_and_close(self, message: dict[str, Any], *, timeout_s: float) -> None:
        with contextlib.suppress(OSError):
            self._connection.settimeout(timeout_s)
            self._connection.sendall(self._outgoing + _line(message))
        self.close()

    def close(self) -> None:
        if self not in self._control.peers:
            return
        self._control.peers.discard(self)
        self._control.loop.remove_reader(self._connection.fileno())
        self._control.loop.remove_writer(self._connection.fileno())
        self._connection.close()

    # ── Incoming ────────────────────────────────────────────────────────────

    def _readable(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._connection, 64 << 10, 4)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if fds:
            self._take(data.strip(), fds)
            return
        if not data or len(self._incoming) > _MAX_LINE_BYTES:
            self.close()  # an agent that went away comes back by itself; the job goes on
            return
        *lines, self._incoming = (self._incoming + data).split(b"\n")
        for line in lines:
            self._obey(line)

    def _take(self, word: bytes, fds: list[int]) -> None:
        if word == _STREAMS and len(fds) == 2 and self._control.orders.streams((fds[0], fds[1])):
            self._say({"streams": True})
            return
        if word == _GATE and len(fds) == 1 and self._control.orders.gate(fds[0]):
            self._say({"gate": True})
            return
        for fd in fds:
            os.close(fd)
        self._say({"error": "two descriptors with the word streams, one with the word gate, once each"})

    def _obey(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            op = message["op"]
        except (ValueError, TypeError, KeyError, RecursionError):
            self._say({"error": "not an order"})
            return
        if op == "status":
            self._say({"status": self._control.orders.status()})
        elif op == "finish":
            self.wants_end = True
            self._control.orders.finish(str(message.get("reason", ""))[:200])
        else:
            self._say({"error": "not an order"})

    # ── Outgoing ────────────────────────────────────────────────────────────

    def _say(self, message: dict[str, Any]) -> None:
        if not self._deaf:
            self._outgoing += _line(message)
            self._send()

    def _send(self) -> None:
        try:
            sent = self._connection.send(self._outgoing)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._deaf, sent = True, len(self._outgoing)
        self._outgoing = self._outgoing[sent:]
        fd = self._connection.fileno()
        if self._outgoing:
            self._control.loop.add_writer(fd, self._writable)
        else:
            self._control.loop.remove_writer(fd)

    def _writable(self) -> None:
        self._send()
        if not self._outgoing and self._behind:
            self._behind = False
            self.say_seq()


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
