"""Large bodies straight between a file and a connection's socket: one copy for each byte, in threads, past the event loop.

A server's own way hands every piece from the socket to its parser, to the application, to a thread, and each time
somebody copies it. A file of some size takes the connection over instead: what the server has buffered is let go first,
then a thread moves a mebibyte at a time through the same memory, and the server goes on where it stopped. Without TLS
only, which needs the server for every byte. The thread gives itself back when it has waited for the peer for some
milliseconds in all, and after some megabytes in any case: lines slower than we are take little of a thread each, and the
end of the process waits for none.

    scope["extensions"]["insitu.bulk"]      a `Bulk`, where this can be done

It leans on uvicorn's own connection: its cycle of request and response, its parser, its flow control.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import time
from collections.abc import Callable, Generator, MutableMapping
from contextlib import contextmanager, suppress
from typing import Any

import httptools
from starlette.concurrency import run_in_threadpool
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from insitu.domain.running_digest import PieceBuffers

EXTENSION = "insitu.bulk"
_PIECE = 1 << 20  # bytes
_BURST = 64 << 20  # bytes that a thread moves before it asks whether to go on
_PATIENCE_S = 0.005  # that a thread waits for the peer in all, before it gives itself back
_WORTH_WAKING = 256 << 10  # bytes; for fewer nobody is woken, but for a body's last ones


def bulk_of(scope: MutableMapping[str, Any]) -> Bulk | None:
    """How to move this request's bodies by hand; None: it can't be done here."""
    return scope.get("extensions", {}).get(EXTENSION)


class BulkConnection(HttpToolsProtocol):
    """A connection that can be taken over for a body."""

    _seen = 0
    """Bytes of the request's body that the parser has seen."""
    _unwanted = 0
    """Bytes that are still to come of a body that nobody wants any more."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._seen = 0

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self.scheme == "http":  # the request's task begins later: it finds this
            self.scope["extensions"] = {EXTENSION: Bulk(self, self.cycle)}  # type: ignore[typeddict-item]

    def on_body(self, body: bytes) -> None:
        self._seen += len(body)
        super().on_body(body)

    def data_received(self, data: bytes) -> None:
        if self._unwanted:
            dropped = min(self._unwanted, len(data))
            self._unwanted -= dropped
            data = data[dropped:]
        if data:
            super().data_received(data)

    @contextmanager
    def without_parser(self, cycle: RequestResponseCycle, length: int) -> Generator[_Left]:
        """Nothing but what the block takes is taken from the socket; after it the parser goes on behind the body."""
        self.flow.pause_reading()
        left = _Left(length - self._seen)
        try:
            yield left
        finally:
            cycle.more_body = False
            cycle.message_event.set()
            if not self.transport.is_closing():
                self.parser = httptools.HttpRequestParser(self)
                self._unwanted = left.bytes
                self.flow.resume_reading()


class _Left:
    """How much of a body is still to come."""

    def __init__(self, count: int) -> None:
        self.bytes = count


class BrokenOffError(Exception):
    """The peer hung up in the middle of its body."""


class Bulk:
    """The bodies of one request and its answer. Each may be moved once, and by nobody else."""

    def __init__(self, connection: BulkConnection, cycle: RequestResponseCycle) -> None:
        self._connection, self._cycle = connection, cycle
        self._loop = connection.loop

    @property
    def _is_gone(self) -> bool:
        return self._cycle.disconnected or self._connection.transport.is_closing()

    async def send(self, file: int, begin: int, end: int) -> None:
        """Send a part of a file. The head of the answer was sent, and is to be followed by this alone; then end it.

        A peer that hangs up is no error: the server knows by then.

        Raises:
            EOFError: the file has no such part.
        """
        transport, cycle = self._connection.transport, self._cycle
        if self._is_gone:
            return
        transport.set_write_buffer_limits(high=0)
        await self._connection.flow.drain()  # until the head is on its way
        if self._is_gone:
            return
        transport.set_write_buffer_limits()
        buffer = memoryview(bytearray(min(_PIECE, end - begin)))
        with self._socket() as own:
            while begin < end and not self._is_gone:
                try:
                    stop = min(end, begin + _BURST)
                    moved = await run_in_threadpool(_send_some, own, file, begin, stop, buffer)
                except OSError:
                    cycle.disconnected = True
                    transport.abort()
                    return
                begin += moved
                cycle.expected_content_length -= moved
                if begin < stop:
                    await self._until(self._loop.add_writer, self._loop.remove_writer, own)

    async def take(self, length: int, write: Callable[[memoryview], object]) -> None:
        """Hand over a request's body of `length` bytes in pieces, in a thread.

        A piece is written over once `AHEAD + 1` more (`running_digest`) were handed over.

        Raises:
            BrokenOffError: the peer hung up. What came before has been handed over.
            Whatever `write` raises. The rest of the body is taken from the wire, and dropped.
        """
        connection, cycle = self._connection, self._cycle
        if self._is_gone:
            raise BrokenOffError
        with connection.without_parser(cycle, length) as left, self._socket() as own:
            if cycle.waiting_for_100_continue:
                connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                cycle.waiting_for_100_continue = False
            if cycle.body:
                first, cycle.body = bytes(cycle.body), bytearray()
                await run_in_threadpool(write, memoryview(first))
            buffers = PieceBuffers(_PIECE)
            while left.bytes:
                stop = max(0, left.bytes - _BURST)
                await run_in_threadpool(_take_some, own, left, stop, buffers, write)
                if left.bytes > stop:
                    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, min(_WORTH_WAKING, left.bytes))
                    await self._until(self._loop.add_reader, self._loop.remove_reader, own)

    @contextmanager
    def _socket(self) -> Generator[socket.socket]:
        """The connection's socket under a descriptor of our own: the server may close its one at any time."""
        with socket.socket(fileno=os.dup(self._connection.transport.get_extra_info("socket").fileno())) as own:
            own.settimeout(0)
            try:
                yield own
            finally:
                with suppress(OSError):
                    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)  # the server shares it

    async def _until(self, add: Callable[..., None], remove: Callable[..., object], own: socket.socket) -> None:
        ready = asyncio.Event()
        add(own, ready.set)
        try:
            await ready.wait()
        finally:
            remove(own)


def _send_some(own: socket.socket, file: int, begin: int, end: int, buffer: memoryview) -> int:
    """How many bytes were sent until the peer took no more."""
    patience = _Patience(own)
    at = begin
    while at < end:
        filled = os.preadv(file, [buffer[: end - at]], at)
        if not filled:
            raise EOFError("a stored file is shorter than it was")
        rest = buffer[:filled]
        while rest:
            try:
                sent = own.send(rest)
            except BlockingIOError:
                if not patience.wait(select.POLLOUT):
                    return at - begin
                continue
            at += sent
            rest = rest[sent:]
    return at - begin


def _take_some(
    own: socket.socket, left: _Left, stop: int, buffers: PieceBuffers, write: Callable[[memoryview], object]
) -> None:
    """Take from the socket until so much is left, or nothing comes."""
    incoming = _Incoming(own)
    while left.bytes > stop:
        wanted = min(_PIECE, left.bytes - stop)
        piece = buffers.filled_by(lambda buffer, wanted=wanted: incoming.fill(buffer[:wanted]))
        left.bytes -= len(piece)
        if piece:
            write(piece)
        if incoming.ended:
            raise BrokenOffError
        if len(piece) < wanted:
            return


class _Incoming:
    """What comes over a socket."""

    def __init__(self, own: socket.socket) -> None:
        self._own, self._patience = own, _Patience(own)
        self.ended = False

    def fill(self, buffer: memoryview) -> int:
        """How many bytes came until nothing came for a while, or the peer hung up."""
        filled = 0
        while filled < len(buffer):
            try:
                count = self._own.recv_into(buffer[filled:])
            except BlockingIOError:
                if not self._patience.wait(select.POLLIN):
                    break
                continue
            except OSError:
                count = 0
            filled += count
            if not count:
                self.ended = True
                break
        return filled


class _Patience:
    """How long one thread still waits for a peer."""

    def __init__(self, own: socket.socket) -> None:
        self._poll = select.poll()
        self._own, self._left_s = own, _PATIENCE_S

    def wait(self, event: int) -> bool:
        """Whether there was something to do before it came to its end."""
        if self._left_s <= 0:
            return False
        self._poll.register(self._own, event)
        begun = time.monotonic()
        ready = self._poll.poll(1000 * self._left_s)
        self._left_s -= time.monotonic() - begun
        return bool(ready)
