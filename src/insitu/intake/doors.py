"""The unix sockets that an intake listens on, and the way that lines of the agent take to it, some with a socket.

The agent makes the intake's control socket and hands it over listening: whoever has
something for the intake may connect from then on, and need not wait until it is ready.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

_BACKLOG = 128


def listen(path: Path, *, mode: int) -> socket.socket:
    """A listening unix socket at `path`, in place of any that a process before this one left there."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listener.fileno(), mode)  # so that it is born with that, but for what the umask takes
        listener.bind(str(path))
        if mode & 0o077:
            path.chmod(mode)  # before `listen`: nobody connects in between
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class Lines:
    """Lines from the agent, and the sockets that came with them.

    Args:
        connection: a stream socket; its other end is the agent's.
        most_bytes: what a line may have.
    """

    def __init__(self, connection: socket.socket, *, most_bytes: int) -> None:
        self._connection = connection
        self._most_bytes = most_bytes
        self._rest = b""
        self.sockets: list[socket.socket] = []

    def next(self) -> bytes:
        """The next line; empty when the agent has gone, or says more than a line may have."""
        while b"\n" not in self._rest:
            data, fds, _, _ = socket.recv_fds(self._connection, 64 << 10, 1)
            self.sockets += [socket.socket(fileno=fd) for fd in fds]
            self._rest += data
            if not data or len(self._rest) > self._most_bytes:
                return b""
        line, _, self._rest = self._rest.partition(b"\n")
        return line
