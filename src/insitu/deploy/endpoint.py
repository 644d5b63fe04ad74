"""`python -m insitu.deploy.endpoint --state FILE --fd N`: owns a deployment's address.

It outlives the agent, so a restarted agent interrupts no caller, and it is the one part
of a deployment that listens on a network. It reads from the state file which revision's
socket requests go to; the agent replaces that file atomically, and it is looked at again
whenever it has changed (one stat for each request). The listening socket is made by the
agent and inherited: that the port can be had is known before anything is started.

With a certificate and key it speaks TLS; with a token file it wants a bearer token, one
of those whose SHA-256 the file lists, and reads that file again when it changes. It logs
no request.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from insitu.deploy.proxy import Client, Proxy

_DRAIN_S = 10.0


@dataclass(frozen=True)
class EndpointState:
    """The content of the state file.

    `upstream` is the socket of the current revision, None while none is healthy.
    """

    name: str
    upstream: Path | None = None
    revision: int | None = None
    certificate: Path | None = None
    key: Path | None = None
    tokens: Path | None = None
    """A file with the SHA-256 of an accepted token, in hex, on each line."""

    def to_json(self) -> str:
        fields = {key: str(value) if isinstance(value, Path) else value for key, value in vars(self).items()}
        return json.dumps(fields, indent=1) + "\n"


def read_state(path: Path) -> EndpointState:
    """Read a state file. Raises OSError or ValueError: it can't be."""
    fields: dict[str, Any] = json.loads(path.read_text())
    paths = {
        key: Path(fields[key]) if fields.get(key) else None for key in ("upstream", "certificate", "key", "tokens")
    }
    return EndpointState(name=str(fields["name"]), revision=fields.get("revision"), **paths)


class WatchedFile:
    """Reads a file again when it is another one than before, or was changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None

    def changed(self) -> bool:
        try:
            status = self.path.stat()
        except OSError:
            mark = (0, 0, 0)
        else:
            mark = (status.st_mtime_ns, status.st_ino, status.st_size)
        changed, self._seen = mark != self._seen, mark
        return changed


class Current:
    """What the state file says now. When it can't be read, nothing is forwarded."""

    def __init__(self, path: Path) -> None:
        self._file = WatchedFile(path)
        self._state: EndpointState | None = None

    def upstream(self) -> Path | None:
        if self._file.changed():
            try:
                self._state = read_state(self._file.path)
            except (OSError, ValueError, KeyError, TypeError):
                self._state = None
        return self._state.upstream if self._state else None


class Tokens:
    """Which bearer tokens may ask. A file that can't be read lets nobody in."""

    def __init__(self, path: Path | None) -> None:
        self._file = WatchedFile(path) if path else None
        self._digests: list[bytes] = []

    def allowed(self, token: bytes) -> bool:
        if self._file is None:
            return True
        if self._file.changed():
            try:
                self._digests = [bytes.fromhex(line) for line in self._file.path.read_text().split()]
            except (OSError, ValueError):
                self._digests = []
        given = hashlib.sha256(token).digest()
        # Every one is compared, so the time tells nothing; an absent token has a digest that nobody lists.
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        return bool(token) and any(matches)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="insitu.deploy.endpoint", description="Own one deployment's address.")
    parser.add_argument("--state", type=Path, required=True, help="file that names the current revision's socket")
    parser.add_argument("--fd", type=int, required=True, help="the listening socket, inherited")
    args = parser.parse_args(arguments)
    try:
        state = read_state(args.state)
        context = _tls(state)
        listener = socket.socket(fileno=args.fd)
    except (OSError, ValueError, KeyError) as exc:
        sys.stderr.write(json.dumps({"error": {"code": "endpoint-not-started", "why": str(exc)[:300]}}) + "\n")
        return 1
    listener.settimeout(0)
    asyncio.run(_serve(args.state, state, listener, context))
    return 0


def _tls(state: EndpointState) -> ssl.SSLContext | None:
    if state.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(state.certificate, state.key)
    return context


async def _serve(path: Path, state: EndpointState, listener: socket.socket, context: ssl.SSLContext | None) -> None:
    proxy = Proxy(upstream=Current(path).upstream, allowed=Tokens(state.tokens).allowed)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    # SIGHUP is the end of a terminal to most programs; this one has none and stays.
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    server = await loop.create_server(lambda: Client(proxy), sock=listener, backlog=512, ssl=context)
    sweeping = loop.create_task(_sweep(proxy))
    await stopping.wait()
    sweeping.cancel()
    server.close()
    await _drain(proxy)


async def _sweep(proxy: Proxy) -> None:
    while True:
        await asyncio.sleep(1.0)
        proxy.sweep(time.monotonic())


async def _drain(proxy: Proxy) -> None:
    proxy.draining = True
    proxy.close_idle()
    with suppress(TimeoutError):
        await asyncio.wait_for(proxy.empty.wait(), _DRAIN_S)
    for client in list(proxy.clients):
        client.transport.abort()


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())
