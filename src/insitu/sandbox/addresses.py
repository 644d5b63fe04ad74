"""Unix sockets whose path may be longer than the 107 bytes that an address holds (unix(7)).

The folder is opened, and the address goes through /proc/self/fd: short whatever
the path is. State folders are named by people, and lie deep.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


def bind_to(listener: socket.socket, path: Path) -> None:
    with _short(path) as address:
        listener.bind(address)


def connect_to(client: socket.socket, path: Path) -> None:
    with _short(path) as address:
        client.connect(address)


@contextmanager
def _short(path: Path) -> Generator[str]:
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
