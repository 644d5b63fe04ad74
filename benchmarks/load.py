"""Requests over HTTP/1.1 as fast as they are answered: a few connections, each with one request at a time.

Written on asyncio's protocols, since a client's library would be slower than the
servers that are to be measured.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import cast

import uvloop

_CONNECTIONS = 16


@dataclass(frozen=True)
class Answered:
    per_s: float
    latencies_s: tuple[float, ...]


def load(port: int, path: str, body: bytes, *, for_s: float) -> Answered:
    """Post `body` for that long.

    Raises:
        RuntimeError: an answer was not 200.
    """
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return uvloop.run(_load(port, head.encode() + body, for_s))


async def _load(port: int, request: bytes, for_s: float) -> Answered:
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    begun = time.perf_counter()
    connections = [
        (await loop.create_connection(lambda: _Connection(request, begun + for_s, latencies), "127.0.0.1", port))[1]
        for _ in range(_CONNECTIONS)
    ]
    await asyncio.gather(*(connection.ended for connection in connections))
    return Answered(len(latencies) / (time.perf_counter() - begun), tuple(latencies))


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, until: float, latencies: list[float]) -> None:
        self._request, self._until, self._latencies = request, until, latencies
        self._buffer = b""
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        if not end or len(body) < length:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self._fail(f"{head.decode()} {body.decode()[:300]}")
            return
        now = time.perf_counter()
        self._latencies.append(now - self._sent_at)
        self._buffer = b""
        if now < self._until:
            self._send()
        else:
            self._transport.close()
            self.ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self._fail(f"the server hung up: {exc}")

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)

    def _fail(self, why: str) -> None:
        self._transport.close()
        if not self.ended.done():
            self.ended.set_exception(RuntimeError(why))
