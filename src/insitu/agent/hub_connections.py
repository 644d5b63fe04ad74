"""Connections to the hub: the standard library's, kept open between calls, or a client library's through a proxy.

Both move bodies of any size: an answer is read into buffers of the caller's, a
file is sent from where it lies. The standard library does that at the link's
speed, at a fifth of the client library's cost; that one knows proxies.
"""

from __future__ import annotations

import http.client
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import BinaryIO, Protocol
from urllib.parse import SplitResult
from urllib.request import getproxies, proxy_bypass

import httpx

from insitu.domain.errors import InsituError, IntegrityError

CONNECT_S = 10.0
CALL_S = 30.0
_CHUNK = 1 << 20  # bytes
_SLOWEST_DISK = 20 << 20  # bytes a second that a hub puts on disk at the least, before it answers an upload

Unreachable = Callable[[Exception], InsituError]
"""Makes the error that says that the hub did not answer, or hung up."""

_FAILURES = (OSError, http.client.HTTPException, httpx.TransportError, httpx.StreamError)


class Incoming(Protocol):
    """An answer that is being read."""

    status: int

    def header(self, name: str) -> str: ...

    def readinto(self, buffer: memoryview) -> int:
        """0 at its end, also where it broke off: the headers say how much there was to come."""
        ...


class Bodies(Protocol):
    """What moves large bodies. Safe for threads. All of it raises what `Unreachable` makes."""

    def get(self, path: str, headers: dict[str, str]) -> AbstractContextManager[Incoming]: ...

    def send_file(
        self, path: str, headers: dict[str, str], file: BinaryIO, offset: int, size_bytes: int
    ) -> tuple[int, bytes]:
        """POST a part of a file; the status and the body of the answer."""
        ...


def read_all(incoming: Incoming, most_bytes: int) -> bytes:
    """What an answer says, up to a bound."""
    buffer = memoryview(bytearray(most_bytes))
    filled = 0
    while filled < most_bytes and (more := incoming.readinto(buffer[filled:])):
        filled += more
    return bytes(buffer[:filled])


def has_proxy(address: SplitResult) -> bool:
    """Whether the machine's environment has a proxy between this site and an address: the hub's, or a store's."""
    proxies = getproxies()
    return bool(proxies.get(address.scheme) or proxies.get("all")) and not proxy_bypass(address.hostname or "")


class OpenConnections:
    """Connections to one hub that are kept open between calls. Safe for threads: a call has one to itself."""

    def __init__(self, hub: SplitResult, tls: ssl.SSLContext, unreachable: Unreachable) -> None:
        self._hub, self._tls, self._unreachable = hub, tls, unreachable
        self._root = hub.path.rstrip("/")
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []

    def post(self, path: str, body: bytes, headers: dict[str, str], timeout_s: float) -> tuple[int, bytes]:
        """The status and the body of the answer."""
        with _explained(self._unreachable), self._one(timeout_s) as connection:
            with _in_one_piece(connection.sock):
                connection.request("POST", self._root + path, body, headers)
            return self._read(connection)

    @contextmanager
    def get(self, path: str, headers: dict[str, str]) -> Generator[Incoming]:
        with _explained(self._unreachable):
            connection = self._take()
        try:
            with _explained(self._unreachable):
                connection.sock.settimeout(CALL_S)
                connection.request("GET", self._root + path, headers=headers)
                response = connection.getresponse()
            yield _Response(response, self._unreachable)
        except BaseException:
            connection.close()
            raise
        self._keep(connection, response)

    def send_file(
        self, path: str, headers: dict[str, str], file: BinaryIO, offset: int, size_bytes: int
    ) -> tuple[int, bytes]:
        with _explained(self._unreachable), self._one(CALL_S) as connection:
            connection.putrequest("POST", self._root + path, skip_accept_encoding=True)
            for name, value in {**headers, "Content-Length": str(size_bytes)}.items():
                connection.putheader(name, value)
            connection.endheaders()
            _send_part(connection.sock, file, offset, size_bytes)
            connection.sock.settimeout(CALL_S + size_bytes / _SLOWEST_DISK)
            return self._read(connection)

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def _one(self, timeout_s: float) -> Generator[http.client.HTTPConnection]:
        """A connection for one call; closed when that fails."""
        connection = self._take()
        try:
            connection.sock.settimeout(timeout_s)
            yield connection
        except BaseException:
            connection.close()
            raise

    def _read(self, connection: http.client.HTTPConnection) -> tuple[int, bytes]:
        response = connection.getresponse()
        answer = response.read()
        self._keep(connection, response)
        return response.status, answer

    def _keep(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        """For the next call, if this answer was read to its end."""
        if response.will_close or not response.isclosed():
            connection.close()
            return
        with self._lock:
            self._idle.append(connection)

    def _take(self) -> http.client.HTTPConnection:
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._connect()
            if not _readable(connection):
                return connection
            connection.close()  # the hub hung up meanwhile: there is nothing else that it could have said

    def _connect(self) -> http.client.HTTPConnection:
        host = self._hub.hostname or ""
        if self._hub.scheme == "https":
            connection = http.client.HTTPSConnection(host, self._hub.port, timeout=CONNECT_S, context=self._tls)
        else:
            connection = http.client.HTTPConnection(host, self._hub.port, timeout=CONNECT_S)
        connection.connect()
        return connection


class ClientBodies:
    """The same by the client library, which knows the environment's proxies."""

    def __init__(self, client: httpx.Client, unreachable: Unreachable) -> None:
        self._client, self._unreachable = client, unreachable

    @contextmanager
    def get(self, path: str, headers: dict[str, str]) -> Generator[Incoming]:
        request = self._client.build_request("GET", path, headers={**headers, "Accept-Encoding": "identity"})
        with _explained(self._unreachable):
            response = self._client.send(request, stream=True)
        try:
            yield _ClientResponse(response, self._unreachable)
        finally:
            response.close()

    def send_file(
        self, path: str, headers: dict[str, str], file: BinaryIO, offset: int, size_bytes: int
    ) -> tuple[int, bytes]:
        with _explained(self._unreachable):
            response = self._client.post(
                path,
                headers={**headers, "Content-Length": str(size_bytes)},
                content=_parts(file, offset, size_bytes),
                timeout=httpx.Timeout(CALL_S, connect=CONNECT_S, read=CALL_S + size_bytes / _SLOWEST_DISK),
            )
        return response.status_code, response.content


class _Response:
    def __init__(self, response: http.client.HTTPResponse, unreachable: Unreachable) -> None:
        self._response, self._unreachable = response, unreachable
        self.status = response.status

    def header(self, name: str) -> str:
        return self._response.getheader(name, "")

    def readinto(self, buffer: memoryview) -> int:
        with _explained(self._unreachable):
            return self._response.readinto(buffer)


class _ClientResponse:
    def __init__(self, response: httpx.Response, unreachable: Unreachable) -> None:
        self._response, self._unreachable = response, unreachable
        self.status = response.status_code
        self._chunks = response.iter_raw(_CHUNK)
        self._left = memoryview(b"")

    def header(self, name: str) -> str:
        return self._response.headers.get(name, "")

    def readinto(self, buffer: memoryview) -> int:
        if not self._left:
            with _explained(self._unreachable):
                self._left = memoryview(next(self._chunks, b""))
        taken = min(len(buffer), len(self._left))
        buffer[:taken] = self._left[:taken]
        self._left = self._left[taken:]
        return taken


@contextmanager
def _explained(unreachable: Unreachable) -> Generator[None]:
    try:
        yield
    except _FAILURES as exc:
        raise unreachable(exc) from exc


@contextmanager
def _in_one_piece(link: socket.socket) -> Generator[None]:
    """What is sent in the block leaves together: the hub wakes once, not for the head and then for the body (tcp(7))."""
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    try:
        yield
    finally:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)


def _send_part(link: socket.socket, file: BinaryIO, offset: int, size_bytes: int) -> None:
    """Through one piece of memory, which stays in the processor's cache: `sendfile` took a quarter longer (measured)."""
    buffer = memoryview(bytearray(min(_CHUNK, size_bytes)))
    while size_bytes:
        filled = os.preadv(file.fileno(), [buffer[:size_bytes]], offset)
        if not filled:
            raise IntegrityError("a file became shorter while it was sent", code="file-changed")
        link.sendall(buffer[:filled])
        offset += filled
        size_bytes -= filled


def _parts(file: BinaryIO, offset: int, size_bytes: int) -> Iterator[bytes]:
    file.seek(offset)
    while size_bytes and (data := file.read(min(_CHUNK, size_bytes))):
        size_bytes -= len(data)
        yield data


def _readable(connection: http.client.HTTPConnection) -> bool:
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))
