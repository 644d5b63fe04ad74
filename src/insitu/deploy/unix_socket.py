"""Connecting to a unix socket that lies in a folder which untrusted code may write to.

The folder belongs to the served process. A link that it puts in the socket's place
could lead a proxy to any socket of this machine that the proxy may reach, such as the
agent's own console; so the last part of the path is opened without following links,
looked at, and connected to by that very handle. The way through /proc also spares the
108 bytes that an address of a unix socket may have (unix(7)).
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path


def connect(sock: socket.socket, path: Path) -> None:
    """Connect `sock`, an AF_UNIX stream socket, to the socket at `path`.

    Raises:
        OSError: there is none, nobody listens, or something else lies there.
    """
    handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(handle).st_mode):
            raise ConnectionRefusedError(f"{path} is not a socket")
        sock.connect(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)
