"""What an intake asks the agent for when a job reads an object, and what it hears; one connection each.

    intake → one line {"input", "number", "start", "length", "head"}, with the job's connection (SCM_RIGHTS)
    agent  → `head` and the bytes, straight into the job's connection
           ← one line {"sent", "code", "what"}; an agent that stops says so (`GONE`), and the next one is asked

The intake has neither network nor keys, so it can't read a store; and the bytes need not
pass through it: it hands over the connection on which the job waits, and takes it up
again when the agent is done with it. An object is asked for by its number in the list
that the agent made for this very job, so nothing else can be named. The agent only
writes to that connection; it reads nothing that the job says.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

_MOST_BYTES = 64 << 10
_LOOK_AGAIN_S = 0.2


@dataclass(frozen=True)
class Ask:
    """A range of one object, for the connection that came with it."""

    input: str
    number: int
    """In the list of the input's objects."""
    start: int
    length: int
    head: str
    """The head of the answer, sent once the first bytes are there."""


@dataclass(frozen=True)
class Told:
    """How it went. With a `code` it went wrong; what the job may read of it is `what`."""

    sent: int
    """Bytes of the object; below 0: nobody knows how many."""
    code: str = ""
    what: str = ""


GONE = Told(0, "feed-gone", "the site's agent is away; read again in a moment")
"""Nothing was sent: it can be asked for again."""
CUT_OFF = replace(GONE, sent=-1)


async def ask(agent: Path, wanted: Ask, connection: int, *, wait_s: float) -> Told:
    """Have the agent answer on `connection` (a descriptor). An agent that is not there, or goes, is told as well.

    Args:
        wait_s: how long to wait for one that is not there, or that stops before it has sent anything.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    while True:
        told = await _ask_once(agent, wanted, connection)
        if told != GONE or loop.time() >= deadline:
            return told
        await asyncio.sleep(_LOOK_AGAIN_S)


async def _ask_once(agent: Path, wanted: Ask, connection: int) -> Told:
    door = await _connect(agent)
    if door is None:
        return GONE
    with door:
        try:
            socket.send_fds(door, [json.dumps(asdict(wanted)).encode() + b"\n"], [connection])
        except OSError:
            return GONE
        line = b""
        while not line.endswith(b"\n") and len(line) < _MOST_BYTES:
            try:
                more = await asyncio.get_running_loop().sock_recv(door, 4096)
            except OSError:
                more = b""
            if not more:
                return CUT_OFF  # killed: nobody knows how much was sent
            line += more
    return Told(**json.loads(line))


async def _connect(agent: Path) -> socket.socket | None:
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    door.settimeout(0)
    try:
        await asyncio.get_running_loop().sock_connect(door, str(agent))
    except OSError:
        door.close()
        return None
    return door


def take(door: socket.socket) -> tuple[Ask, socket.socket] | None:
    """What is asked on a connection, and where the answer goes. None: it is not what an intake says."""
    data, descriptors, _, _ = socket.recv_fds(door, _MOST_BYTES, 4)
    try:
        while data and not data.endswith(b"\n") and len(data) < _MOST_BYTES:
            data += door.recv(4096)
        wanted = Ask(**json.loads(data))
        kinds = (str, int, int, int, str)
        if len(descriptors) != 1 or not all(map(isinstance, asdict(wanted).values(), kinds)):
            raise ValueError
    except (ValueError, TypeError, RecursionError):
        for descriptor in descriptors:
            os.close(descriptor)
        return None
    try:
        return wanted, socket.socket(fileno=descriptors[0])
    except OSError:
        os.close(descriptors[0])  # it is no socket at all
        return None


def tell(door: socket.socket, told: Told) -> None:
    fields: dict[str, Any] = asdict(told)
    door.sendall(json.dumps(fields).encode() + b"\n")
