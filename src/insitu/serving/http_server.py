"""A small HTTP/1.1 server on asyncio, for one process that answers short JSON requests.

RFC 9112 read strictly: what two readers could read in two ways (a bare line feed, two
lengths, a length and chunks, folded headers, space before a colon) is refused and the
connection closed. Requests on one connection are answered one after another, in order.

Every size, time and number is bounded by `Limits`. A head, a body or a slow reader that
takes too long ends its connection; more connections than allowed get 503. The handler
runs in the loop and must not block: it keeps `respond` and calls it once, now or later.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(rb"/[\x21-\x7e]*")
_DIGITS = re.compile(rb"[0-9]{1,15}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[^\r\n]*)?")
_PHRASES = {int(status): status.phrase.encode() for status in HTTPStatus}


@dataclass(frozen=True)
class Limits:
    head_bytes: int = 16 << 10
    headers: int = 64
    body_bytes: int = 16 << 20
    """Of one request."""
    bodies_bytes: int = 128 << 20
    """Of all requests that are being read or answered."""
    connections: int = 1024
    head_s: float = 10.0
    """From the first byte of a request to the end of its head."""
    body_s: float = 60.0
    idle_s: float = 75.0
    """Between two requests."""
    answer_s: float = 60.0
    """For the handler; then the caller gets 504. MLflow's default, too."""
    write_s: float = 30.0
    """For a caller that doesn't read its answer."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: Mapping[bytes, bytes]
    """Names in lower case."""
    body: bytes

    def header(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[Request, Callable[[Reply], None]], None]


class _BadRequest(Exception):
    """What was read is not a request; the connection is closed after the answer."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


@dataclass(slots=True)
class _Head:
    method: str
    path: str
    headers: dict[bytes, bytes]
    keep_alive: bool
    chunked: bool
    length: int
    body: bytearray = field(default_factory=bytearray)
    trailer: bool = False


def parse_head(raw: bytes, limits: Limits) -> _Head:
    """A request's head, without the empty line that ends it.

    Raises:
        _BadRequest: it isn't one, or could be read in two ways.
    """
    lines = raw.split(b"\r\n")
    parts = lines[0].split(b" ")
    if len(parts) != 3 or not _TOKEN.fullmatch(parts[0]) or not _TARGET.fullmatch(parts[1]):
        raise _BadRequest(400, "the request line is not METHOD /path HTTP/1.1")
    if parts[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise _BadRequest(505, "this server speaks HTTP/1.1")
    if len(lines) - 1 > limits.headers:
        raise _BadRequest(431, f"more than {limits.headers} headers")
    headers = _headers(lines[1:])
    is_new = parts[2] == b"HTTP/1.1"
    if is_new and b"host" not in headers:
        raise _BadRequest(400, "HTTP/1.1 wants a Host header")
    connection = headers.get(b"connection", b"").lower()
    keep_alive = b"close" not in connection if is_new else b"keep-alive" in connection
    chunked, length = _framing(headers, limits, is_new=is_new)
    path = parts[1].split(b"?", 1)[0].decode("ascii")
    return _Head(parts[0].decode("ascii"), path, headers, keep_alive, chunked, length)


def _headers(lines: list[bytes]) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name):
            raise _BadRequest(400, "a header line is not name: value")
        value = value.strip(b" \t")
        if b"\n" in value or b"\r" in value or b"\0" in value:
            raise _BadRequest(400, "a header holds a control character")
        name = name.lower()
        if name in headers:
            if name in (b"content-length", b"transfer-encoding", b"host"):
                raise _BadRequest(400, f"two {name.decode()} headers")
            value = headers[name] + b", " + value
        headers[name] = value
    return headers


def _framing(headers: Mapping[bytes, bytes], limits: Limits, *, is_new: bool) -> tuple[bool, int]:
    length, encoding = headers.get(b"content-length"), headers.get(b"transfer-encoding")
    if encoding is not None:
        # RFC 9112 section 6.1: both at once is how requests are smuggled past a proxy.
        if length is not None or not is_new:
            raise _BadRequest(400, "a length and a transfer encoding at once")
        if encoding.lower() != b"chunked":
            raise _BadRequest(501, "the only transfer encoding here is chunked")
        return True, 0
    if length is None:
        return False, 0
    if not _DIGITS.fullmatch(length):
        raise _BadRequest(400, "the content length is not a number")
    if int(length) > limits.body_bytes:
        raise _BadRequest(413, f"the body is over {limits.body_bytes} bytes")
    return False, int(length)


class Server:
    """Listens, keeps its connections in time, and drains them at the end."""

    def __init__(self, handler: Handler, limits: Limits) -> None:
        self.handler = handler
        self.limits = limits
        self.connections: set[_Connection] = set()
        self.empty = asyncio.Event()  # set when the last connection of a draining server has gone
        self.draining = False
        self.held_bytes = 0
        self.date = b""
        self._listener: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def listen(self, *, host: str = "", port: int = 0, uds: str = "") -> tuple[str, int] | str:
        """Start listening; returns the address.

        Raises:
            OSError: the address can't be had.
        """
        loop = asyncio.get_running_loop()
        self._tick()
        self._sweeper = loop.create_task(self._sweep())
        if uds:
            self._listener = await loop.create_unix_server(lambda: _Connection(self), uds, backlog=512)
            return uds
        self._listener = await loop.create_server(lambda: _Connection(self), host, port, backlog=512)
        name = self._listener.sockets[0].getsockname()
        return name[0], name[1]

    async def drain(self, within_s: float) -> None:
        """Take no more connections, answer what has been asked, and close."""
        self.draining = True
        if self._listener is not None:
            self._listener.close()
        for connection in list(self.connections):
            connection.close_when_idle()
        if self.connections:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.empty.wait(), within_s)
        for connection in list(self.connections):
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._tick()
            now = time.monotonic()
            for connection in list(self.connections):
                connection.check_time(now)

    def _tick(self) -> None:
        self.date = formatdate(usegmt=True).encode()


class _Connection(asyncio.Protocol):
    __slots__ = ("_awaiting", "_blocked", "_buffer", "_deadline", "_eof", "_head", "_held", "_server", "_transport")

    _transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self._server = server
        self._buffer = bytearray()
        self._head: _Head | None = None
        self._awaiting: _Head | None = None  # the request that the handler has
        self._blocked = False  # the caller doesn't read
        self._eof = False
        self._held = 0
        self._deadline = time.monotonic() + server.limits.head_s

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        server = self._server
        if len(server.connections) >= server.limits.connections or server.draining:
            self._write(Reply(503, b'{"error":"too many connections"}'), keep_alive=False)
        else:
            server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._server.connections.discard(self)
        if self._server.draining and not self._server.connections:
            self._server.empty.set()
        self._release()
        self._head = None
        self._buffer.clear()

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._buffer += data
        if self._awaiting is None and not self._blocked:
            self._read()
        elif len(self._buffer) > self._server.limits.head_bytes:
            self._transport.pause_reading()  # more requests piled up than an honest pipeline has

    def eof_received(self) -> bool:
        # A caller may close its half after asking (`curl` doesn't, `nc` does): it still gets its answer.
        self._eof = True
        return self._awaiting is not None

    def pause_writing(self) -> None:
        self._blocked = True
        self._deadline = time.monotonic() + self._server.limits.write_s

    def resume_writing(self) -> None:
        self._blocked = False
        if self._awaiting is None:
            self._next()

    # -- what the server calls

    def check_time(self, now: float) -> None:
        if now < self._deadline:
            return
        if self._awaiting is not None and not self._blocked:
            self._answer(self._awaiting, Reply(504, b'{"error":"the answer took too long"}'))
        elif self._blocked:
            self._transport.abort()
        elif self._head is not None or self._buffer:
            self._write(Reply(408, b'{"error":"the request took too long to arrive"}'), keep_alive=False)
        else:
            self._transport.close()

    def close_when_idle(self) -> None:
        if self._awaiting is None and self._head is None and not self._buffer:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    # -- one request after the other

    def _read(self) -> None:
        try:
            while self._awaiting is None and not self._blocked and not self._transport.is_closing():
                if self._head is None and not self._read_head():
                    return
                head = self._head
                assert head is not None
                if not (self._read_chunks(head) if head.chunked else self._read_body(head)):
                    return
                self._dispatch(head)
        except _BadRequest as error:
            self._buffer.clear()
            self._release()
            self._write(Reply(error.status, b'{"error":"%s"}' % error.why.encode()), keep_alive=False)

    def _read_head(self) -> bool:
        limits, buffer = self._server.limits, self._buffer
        while buffer.startswith(b"\r\n"):  # RFC 9112 section 2.2: an empty line before a request is skipped
            del buffer[:2]
        end = buffer.find(b"\r\n\r\n", 0, limits.head_bytes + 4)
        if end < 0:
            if len(buffer) > limits.head_bytes:
                raise _BadRequest(431, f"the head is over {limits.head_bytes} bytes")
            return False
        self._head = head = parse_head(bytes(buffer[:end]), limits)
        del buffer[: end + 4]
        if head.length or head.chunked:
            self._hold(head.length)
            self._deadline = time.monotonic() + limits.body_s
            if head.headers.get(b"expect", b"").lower() == b"100-continue":
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _read_body(self, head: _Head) -> bool:
        if len(self._buffer) < head.length:
            return False
        head.body = self._buffer[: head.length]
        del self._buffer[: head.length]
        return True

    def _read_chunks(self, head: _Head) -> bool:
        limits, buffer = self._server.limits, self._buffer
        while True:
            end = buffer.find(b"\r\n", 0, 1024)
            if end < 0:
                if len(buffer) >= 1024:
                    raise _BadRequest(400, "a chunk's size is too long")
                return False
            if head.trailer:  # trailers are read and forgotten
                line_was_empty = end == 0
                del buffer[: end + 2]
                if line_was_empty:
                    return True
                continue
            match = _CHUNK_SIZE.fullmatch(bytes(buffer[:end]))
            if not match:
                raise _BadRequest(400, "a chunk's size is not a number")
            size = int(match[1], 16)
            if len(head.body) + size > limits.body_bytes:
                raise _BadRequest(413, f"the body is over {limits.body_bytes} bytes")
            if size == 0:
                head.trailer = True
                del buffer[: end + 2]
                continue
            if len(buffer) < end + 2 + size + 2:
                return False
            if buffer[end + 2 + size : end + 4 + size] != b"\r\n":
                raise _BadRequest(400, "a chunk doesn't end where its size says")
            self._hold(size)
            head.body += buffer[end + 2 : end + 2 + size]
            del buffer[: end + 4 + size]

    def _dispatch(self, head: _Head) -> None:
        self._head, self._awaiting = None, head
        self._deadline = time.monotonic() + self._server.limits.answer_s
        request = Request(head.method, head.path, head.headers, bytes(head.body))
        self._server.handler(request, lambda reply: self._answer(head, reply))

    def _answer(self, head: _Head, reply: Reply) -> None:
        if self._awaiting is not head:
            return  # answered already, or the caller has gone
        self._awaiting = None
        self._release()
        if self._transport.is_closing():
            return
        keep_alive = head.keep_alive and not self._eof and not self._server.draining
        self._write(reply, keep_alive=keep_alive, with_body=head.method != "HEAD")
        if keep_alive and not self._blocked and self._buffer:
            # Not from within `_read`'s own loop: a pipeline must not deepen the stack.
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        if self._transport.is_closing():
            return
        self._transport.resume_reading()
        self._read()

    def _write(self, reply: Reply, *, keep_alive: bool, with_body: bool = True) -> None:
        now = time.monotonic()
        self._deadline = now + self._server.limits.idle_s
        extra = "".join(f"{name}: {value}\r\n" for name, value in reply.headers).encode("latin-1")
        head = b"HTTP/1.1 %d %b\r\nDate: %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b%b\r\n" % (
            reply.status,
            _PHRASES.get(reply.status, b"Unknown"),
            self._server.date,
            reply.content_type.encode("ascii"),
            len(reply.body),
            extra,
            b"" if keep_alive else b"Connection: close\r\n",
        )
        self._transport.write(head + reply.body if with_body else head)
        if not keep_alive:
            self._deadline = now + self._server.limits.write_s
            self._transport.close()

    def _hold(self, size: int) -> None:
        """Count body bytes in, so that many large bodies at once can't fill the memory."""
        server = self._server
        if server.held_bytes + size > server.limits.bodies_bytes:
            raise _BadRequest(503, "too many large requests at once")
        server.held_bytes += size
        self._held += size

    def _release(self) -> None:
        self._server.held_bytes -= self._held
        self._held = 0
