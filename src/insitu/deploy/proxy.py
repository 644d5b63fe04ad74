"""One proxied HTTP connection: request heads are read, everything else is passed on.

A client's requests are forwarded one after another, each over a pooled connection to
the current revision's unix socket. Bodies stream through in both directions with back
pressure: what one side doesn't take, the other side isn't read for. No byte of a body
is kept, looked at or logged; a small request is held until its answer begins, so that
it can be sent once more when a pooled connection turns out to have been closed.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from insitu.deploy.http_heads import MAX_HEAD, BadHeadError, Body, ReplyHead, RequestHead, read_reply, read_request
from insitu.deploy.unix_socket import connect


@dataclass(frozen=True)
class ProxyLimits:
    connections: int = 1024
    idle_upstreams: int = 64
    head_s: float = 10.0
    idle_s: float = 75.0
    body_s: float = 120.0
    """For a request to arrive whole."""
    answer_s: float = 90.0
    """For the revision to begin an answer, and for the client to take it."""
    held_bytes: int = 256 << 10
    """Of a request that may be sent a second time."""


@dataclass
class Proxy:
    """What all connections share.

    Args:
        upstream: the current revision's socket; None when none is healthy.
        allowed: whether a bearer token may ask.
    """

    upstream: Callable[[], Path | None]
    allowed: Callable[[bytes], bool]
    limits: ProxyLimits = field(default_factory=ProxyLimits)
    clients: set[Client] = field(default_factory=set)
    idle: deque[Upstream] = field(default_factory=deque)
    draining: bool = False
    empty: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a draining proxy has no client left."""

    def left(self, client: Client) -> None:
        self.clients.discard(client)
        if self.draining and not self.clients:
            self.empty.set()

    def pooled(self, path: Path) -> Upstream | None:
        """An idle connection to that socket; those to others are closed."""
        while self.idle:
            upstream = self.idle.pop()
            if upstream.path == path and not upstream.transport.is_closing():
                return upstream
            upstream.transport.close()
        return None

    def give_back(self, upstream: Upstream) -> None:
        if self.draining or len(self.idle) >= self.limits.idle_upstreams:
            upstream.transport.close()
        else:
            self.idle.append(upstream)

    async def open(self, path: Path) -> Upstream:
        """A new connection to a revision.

        Raises:
            OSError: nobody listens.
        """
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(0)
            connect(sock, path)  # a unix socket connects at once, or says EAGAIN when its backlog is full
            _, upstream = await loop.create_unix_connection(lambda: Upstream(self, path), sock=sock)
        except BaseException:
            sock.close()
            raise
        return upstream

    def sweep(self, now: float) -> None:
        for client in list(self.clients):
            client.check_time(now)

    def close_idle(self) -> None:
        for client in list(self.clients):
            client.close_when_idle()
        while self.idle:
            self.idle.pop().transport.close()
        if not self.clients:
            self.empty.set()


class Client(asyncio.Protocol):
    """A connection from outside."""

    transport: asyncio.Transport

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._buffer = bytearray()
        self._head: RequestHead | None = None
        self._body: Body | None = None
        self._held: bytearray | None = None  # the request so far, while it may be sent again
        self._upstream: Upstream | None = None
        self._opening: asyncio.Task[None] | None = None
        self._deadline = time.monotonic() + proxy.limits.head_s
        self._answering = False  # bytes of the answer have gone out

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if len(self._proxy.clients) >= self._proxy.limits.connections:
            self.refuse(503, "too-many-connections", "too many connections")
        else:
            self._proxy.clients.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._proxy.left(self)
        if self._opening is not None:
            self._opening.cancel()
        if self._upstream is not None:
            # An answer that nobody waits for: a connection in the middle of it can't be used again.
            self._upstream.client = None
            self._upstream.transport.abort()
            self._upstream = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._advance()

    def eof_received(self) -> bool:
        return self._head is not None  # a caller may close its half and still wait for its answer

    def pause_writing(self) -> None:
        if self._upstream is not None:
            self._upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._upstream is not None:
            self._upstream.transport.resume_reading()

    # -- a request

    def _advance(self) -> None:
        try:
            if self._head is None and not self._read_head():
                return
            self._forward_body()
        except BadHeadError as error:
            self._buffer.clear()
            self.refuse(error.status, "bad-request", error.why)

    def _read_head(self) -> bool:
        if self.transport.is_closing():
            return False
        while self._buffer.startswith(b"\r\n"):
            del self._buffer[:2]
        end = self._buffer.find(b"\r\n\r\n", 0, MAX_HEAD + 4)
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                raise BadHeadError(431, f"the head is over {MAX_HEAD} bytes")
            return False
        head = read_request(bytes(self._buffer[:end]))
        del self._buffer[: end + 4]
        if not self._proxy.allowed(head.token):
            self.refuse(401, "not-authenticated", "a bearer token is wanted", "WWW-Authenticate: Bearer\r\n")
            return False
        path = self._proxy.upstream()
        if path is None:
            self._unavailable()
            return False
        limits = self._proxy.limits
        self._head, self._body = head, Body(length=head.length, chunked=head.chunked)
        self._held = bytearray(head.forwarded)
        self._answering = False
        self._deadline = time.monotonic() + (limits.answer_s if self._body.done else limits.body_s)
        self._upstream = self._proxy.pooled(path)
        if self._upstream is None:
            self._open(path)
        else:
            self._upstream.take(self, head.method)
            self._upstream.transport.write(head.forwarded)
        return True

    def _open(self, path: Path) -> None:
        """Connect anew; what has come of the request is sent when the connection is there."""
        if self._upstream is None:
            self.transport.pause_reading()
        self._opening = asyncio.get_running_loop().create_task(self._opened(path))

    async def _opened(self, path: Path) -> None:
        assert self._head is not None
        assert self._held is not None
        try:
            upstream = await self._proxy.open(path)
        except OSError:
            self._unavailable()
            return
        finally:
            self._opening = None
        self._upstream = upstream
        upstream.take(self, self._head.method)
        upstream.transport.write(bytes(self._held))
        self.transport.resume_reading()
        self._advance()

    def _forward_body(self) -> None:
        body, upstream = self._body, self._upstream
        if body is None or upstream is None or body.done or not self._buffer:
            # What comes while a request is being answered is the next one; only so much of it is kept.
            if body is not None and body.done and len(self._buffer) > MAX_HEAD:
                self.transport.pause_reading()
            return
        count = body.take(bytes(self._buffer))
        part = bytes(self._buffer[:count])
        del self._buffer[:count]
        if self._held is not None:
            self._held += part
            if len(self._held) > self._proxy.limits.held_bytes:
                self._held = None
        upstream.transport.write(part)
        if body.done:
            self._deadline = time.monotonic() + self._proxy.limits.answer_s

    # -- an answer

    @property
    def request_is_whole(self) -> bool:
        """False: it was answered before it had been read, so its rest would meet the wrong ears."""
        return self._body is None or self._body.done

    def answer_begins(self, head: ReplyHead, rest: bytes) -> None:
        """The revision's answer: its head, and what came with it of the body."""
        assert self._head is not None
        self._answering = True
        self._held = None
        stays = self._stays_open()
        self.transport.write(head.forwarded + (b"\r\n\r\n" if stays else b"\r\nconnection: close\r\n\r\n") + rest)

    def answer_ends(self) -> None:
        stays = self._stays_open()
        self._head = self._body = self._upstream = None
        self._deadline = time.monotonic() + self._proxy.limits.idle_s
        if not stays:
            self.transport.close()
            return
        self.transport.resume_reading()
        if self._buffer:
            asyncio.get_running_loop().call_soon(self._advance)

    def upstream_lost(self, *, was_pooled: bool) -> None:
        """The connection to the revision ended before the answer did."""
        self._upstream = None
        path = self._proxy.upstream()
        if self._answering:
            self.transport.abort()  # half an answer must not look like a whole one
        elif was_pooled and self._held is not None and path is not None:
            # It had been closed while idle, e.g. by a revision that is stopping: nothing was lost but time.
            self._open(path)
        else:
            self._unavailable()

    # -- refusals and time

    def _stays_open(self) -> bool:
        assert self._head is not None
        return self._head.keep_alive and self.request_is_whole and not self._proxy.draining

    def _unavailable(self) -> None:
        why = "no revision of this deployment is healthy"
        self.refuse(503, "no-healthy-revision", why, "Retry-After: 1\r\n")

    def refuse(self, status: int, code: str, why: str, extra: str = "") -> None:
        """Answer instead of the revision, in words that callers of either protocol find, and close."""
        if self.transport.is_closing():
            return
        body = json.dumps({"error": why, "error_code": code, "message": why}).encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n{extra}connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def check_time(self, now: float) -> None:
        if now < self._deadline:
            return
        self._deadline = now + self._proxy.limits.answer_s
        if self._head is None and not self._buffer:
            self.transport.close()
        elif self._answering:
            self.transport.abort()
        elif self._head is None or (self._body is not None and not self._body.done):
            self.refuse(408, "too-slow", "the request took too long to arrive")
        else:
            self.refuse(504, "no-answer", "the model took too long to answer")

    def close_when_idle(self) -> None:
        if self._head is None and not self._buffer:
            self.transport.close()


class Upstream(asyncio.Protocol):
    """A connection to a revision: idle in the pool, or a client's."""

    transport: asyncio.Transport

    def __init__(self, proxy: Proxy, path: Path) -> None:
        self._proxy = proxy
        self.path = path
        self.client: Client | None = None
        self._method = b""
        self._buffer = bytearray()
        self._left: int | None = None  # bytes of the body still to come; None: its head is
        self._keep_alive = True
        self._served = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def take(self, client: Client, method: bytes) -> None:
        self.client = client
        self._method = method
        self._left = None
        self._buffer.clear()

    def data_received(self, data: bytes) -> None:
        if self.client is None:
            self.transport.abort()  # an answer that nobody asked for
            return
        if self._left is None:
            self._buffer += data
            self._read_heads()
        else:
            self._left -= len(data)
            self.client.transport.write(data)
            self._end_if_done()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        client, self.client = self.client, None
        if client is not None:
            client.upstream_lost(was_pooled=self._served > 0)

    def pause_writing(self) -> None:
        if self.client is not None:
            self.client.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.client is not None:
            self.client.transport.resume_reading()

    def _read_heads(self) -> None:
        assert self.client is not None
        while self._left is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > MAX_HEAD:
                    self.transport.abort()
                return
            try:
                head = read_reply(bytes(self._buffer[:end]), to=self._method)
            except BadHeadError:
                self.transport.abort()
                return
            del self._buffer[: end + 4]
            if head.status < 200:  # 100 Continue: the answer itself is still to come
                self.client.transport.write(head.forwarded + b"\r\n\r\n")
                continue
            self._left, self._keep_alive = head.length - len(self._buffer), head.keep_alive
            self.client.answer_begins(head, bytes(self._buffer))
            self._buffer.clear()
        self._end_if_done()

    def _end_if_done(self) -> None:
        assert self._left is not None
        if self._left > 0:
            return
        client, self.client = self.client, None
        assert client is not None
        complete = self._left == 0 and self._keep_alive and client.request_is_whole
        self._served += 1
        if complete:
            self.transport.resume_reading()
            self._proxy.give_back(self)
        else:
            self.transport.close()
        client.answer_ends()
