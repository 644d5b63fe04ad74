"""Reads objects of a blob store over connections of our own, where a request can be signed without the store's library.

A library copies each byte several times on its way to us; here the kernel puts it where
the taker wants it, and it is used from there while it is still in the processor's cache.
That takes half of the processor time (`benchmarks/`: staging, direct).

It is the way for when all is well, and for nothing else. Wherever an answer is not
exactly the one that was asked for, or ends early, the library is asked for what is
missing: it is patient, and its refusals have names. So no error comes from here, and
none can hold what a request was signed with.
"""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import SplitResult, urlsplit

from insitu.agent.hub_connections import has_proxy
from insitu.agent.stores.contract import Buffer, Reuse
from insitu.agent.stores.signed_requests import SignedRequest, Signer

_CONNECT_S, _READ_S = 10.0, 60.0
_IDLE_S = 2.0
"""Not used again after that: some stores hang up after five, and one that does so just then is only told by a failure."""
_REST_S = 60.0
_OF_THE_OBJECT = (404, 412, 416)
"""Refusals that say nothing about the next object."""

Otherwise = Callable[[str, int, int | None, str], Iterator[Buffer]]
"""(name, start, length or None, ETag or "") → the bytes, as the library reads them."""


@dataclass
class OwnConnections:
    """To one store; several threads may read at once, each over a connection of its own."""

    sign: Signer = field(repr=False)
    _idle: list[tuple[http.client.HTTPConnection, float]] = field(
        default_factory=list[tuple[http.client.HTTPConnection, float]], repr=False
    )
    _origin: tuple[str, str] | None = None
    _rests_until: float = 0.0
    _closed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def stream(
        self, name: str, start: int, length: int | None, etag: str, reuse: Reuse, otherwise: Otherwise
    ) -> Iterator[Buffer]:
        """As the contract's `stream` has it: from here, and what does not come from here `otherwise`.

        Raises:
            What `otherwise` raises.
        """
        reading = self.open(name, start, length, etag=etag) if length != 0 else None
        if reading is not None:
            coming = reading.left
            with closing(reading.pieces(reuse)) as pieces:
                yield from pieces
            start, length, etag = start + coming - reading.left, reading.left, etag or reading.etag
        if length != 0:
            yield from otherwise(name, start, length, etag)

    def open(self, name: str, start: int, length: int | None, *, etag: str = "") -> Reading | None:
        """The object from `start` on, `length` bytes of it or to its end, if it has that ETag. None: ask another way."""
        if time.monotonic() < self._rests_until:
            return None
        connection = used = self._idle_one()
        status = 0
        with suppress(Exception):
            request = self.sign(name, _headers(start, length, etag))
            connection = connection or self._connect(urlsplit(request.url))
            answer = self._ask(connection, request)
            status = answer.status
            if _is_what_was_asked_for(answer, start, length, etag):
                return Reading(self, connection, answer)
        if connection is not None:
            connection.close()
        was_just_stale = used is not None and not status
        if status not in _OF_THE_OBJECT and not was_just_stale:
            self._rests_until = time.monotonic() + _REST_S
        return None

    def close(self) -> None:
        """Those that read end when they are done."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection, request: SignedRequest) -> http.client.HTTPResponse:
        address = urlsplit(request.url)
        self._origin = self._origin or (address.scheme, address.netloc)
        if self._origin != (address.scheme, address.netloc):
            raise ValueError("an idle connection may lead elsewhere")
        target = f"{address.path}?{address.query}" if address.query else address.path
        connection.request("GET", target, headers=dict(request.headers))
        return connection.getresponse()

    def _idle_one(self) -> http.client.HTTPConnection | None:
        with self._lock:
            while self._idle:
                connection, since = self._idle.pop()
                if time.monotonic() - since < _IDLE_S:
                    return connection
                connection.close()
        return None

    def _connect(self, address: SplitResult) -> http.client.HTTPConnection:
        if has_proxy(address):
            raise ConnectionError("the library knows how to speak to a proxy")
        host, port = address.hostname or "", address.port
        if address.scheme == "https":
            connection = http.client.HTTPSConnection(host, port, timeout=_CONNECT_S, context=self._trusted)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=_CONNECT_S)
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        connection.sock.settimeout(_READ_S)
        return connection

    @cached_property
    def _trusted(self) -> ssl.SSLContext:
        """The machine's own certificates, or those that SSL_CERT_FILE names, as obstore has it."""
        return ssl.create_default_context()

    def take_back(self, connection: http.client.HTTPConnection) -> None:
        """A connection whose answer was read to its end."""
        with self._lock:
            if not self._closed and connection.sock is not None:
                self._idle.append((connection, time.monotonic()))
                return
        connection.close()


class OwnStreams(ABC):
    """What a store that has a library streams: by connections of our own where it may, else as the library does."""

    def __init__(self, sign: Signer | None) -> None:
        self._own = OwnConnections(sign) if sign is not None else None

    @property
    def reuses(self) -> bool:
        return self._own is not None

    def stream(
        self, name: str, *, start: int = 0, length: int | None = None, etag: str = "", reuse: Reuse | None = None
    ) -> Iterator[Buffer]:
        """See the contract."""
        if reuse is None or self._own is None:
            return self._stream(name, start, length, etag)
        return self._own.stream(name, start, length, etag, reuse, self._stream)

    def close(self) -> None:
        if self._own is not None:
            self._own.close()

    @abstractmethod
    def _stream(self, name: str, start: int, length: int | None, etag: str) -> Iterator[Buffer]:
        """As the library reads it; `Otherwise`."""


class Reading:
    """The body of one answer."""

    def __init__(
        self, whose: OwnConnections, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse
    ) -> None:
        self._whose, self._connection, self._answer = whose, connection, answer
        self.etag = _etag(answer)
        self.left = answer.length or 0
        """Bytes that have not come yet. More than none when `pieces` has ended: the connection was cut."""

    def pieces(self, reuse: Reuse) -> Generator[memoryview]:
        """The body, in `reuse.buffer`, once. Ends early, without an error, when the connection does."""
        fill = self._answer.fp.readinto if reuse.full else self._answer.fp.readinto1
        try:
            while self.left:
                taken = 0
                with suppress(OSError, ValueError, http.client.HTTPException):
                    taken = fill(reuse.buffer[: self.left])
                if not taken:
                    return
                self.left -= taken
                yield reuse.buffer[:taken]
        finally:
            self._end()

    def _end(self) -> None:
        self._answer.length = 0
        self._answer.close()
        if self.left or self._answer.will_close:
            self._connection.close()
        else:
            self._whose.take_back(self._connection)


def _is_what_was_asked_for(answer: http.client.HTTPResponse, start: int, length: int | None, etag: str) -> bool:
    """Whether these are the bytes: a store, or what stands before it, might send others than those that were named."""
    if answer.length is None or answer.chunked:
        return False
    if not _etag(answer) or (etag and _etag(answer) != etag):  # without one, the rest of a cut one could be another's
        return False
    if not start and length is None:
        return answer.status == 200
    if answer.status != 206 or not answer.length or (length is not None and answer.length > length):
        return False
    return answer.getheader("content-range", "").startswith(f"bytes {start}-{start + answer.length - 1}/")


def _headers(start: int, length: int | None, etag: str) -> dict[str, str]:
    only = {"If-Match": f'"{etag}"'} if etag else {}
    if not start and length is None:
        return only
    return {"Range": f"bytes={start}-{'' if length is None else start + length - 1}", **only}


def _etag(answer: http.client.HTTPResponse) -> str:
    return answer.getheader("etag", "").strip('"')
