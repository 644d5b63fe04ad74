"""Bodies past the event loop: whatever happens to one, the connection goes on behind it, or ends."""

from __future__ import annotations

import http.client
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from insitu.domain.errors import InvalidInputError
from insitu.hub.api.file_bodies import FileBody, take_body
from insitu.hub.bulk_connection import EXTENSION, BulkConnection

LARGE = os.urandom((9 << 20) + 123)
MOST = 4 << 20
LIMIT_S = 30


class Taken:
    """What the server took, and how it ended."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.by_hand: list[bool] = []
        self.broken = threading.Event()

    def write(self, piece: bytes | memoryview) -> None:
        self.data += piece


def an_app(file: Path, taken: Taken) -> FastAPI:
    app = FastAPI()

    @app.get("/file")
    def get_file(request: Request) -> FileBody:
        taken.by_hand.append(EXTENSION in request.scope.get("extensions", {}))
        return FileBody(file)

    @app.post("/body")
    async def post_body(request: Request) -> Response:
        try:
            await take_body(request, taken.write)
        except InvalidInputError:
            taken.broken.set()
            raise
        return PlainTextResponse(str(len(taken.data)))

    @app.post("/refused")
    async def post_refused(request: Request) -> Response:
        def write(piece: bytes | memoryview) -> None:
            taken.write(piece)
            if len(taken.data) > MOST:
                raise ValueError

        try:
            await take_body(request, write)
        except ValueError:
            return PlainTextResponse("too much", 413)
        return PlainTextResponse("all of it")

    return app


@contextmanager
def served(app: FastAPI) -> Iterator[int]:
    """On a port of loopback, as a hub serves."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        config = uvicorn.Config(app, loop="uvloop", http=BulkConnection, ws="none", log_config=None)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([door],))
        thread.start()
        try:
            yield door.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def taken():
    return Taken()


@pytest.fixture
def port(tmp_path, taken):
    (tmp_path / "file").write_bytes(LARGE)
    with served(an_app(tmp_path / "file", taken)) as found:
        yield found


@pytest.fixture
def connection(port):
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)) as made:
        yield made


def call(connection, method, path, body=None, **headers):
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    return response.status, response.read()


def test_one_connection_carries_files_and_bodies_one_after_the_other(connection, taken):
    assert call(connection, "GET", "/file") == (200, LARGE)
    first = connection.sock
    assert call(connection, "POST", "/body", LARGE) == (200, str(len(LARGE)).encode())
    assert bytes(taken.data) == LARGE
    assert call(connection, "GET", "/file", Range="bytes=5-3000004") == (206, LARGE[5:3_000_005])
    assert call(connection, "POST", "/body", b"small") == (200, str(len(LARGE) + 5).encode())
    assert connection.sock is first, "it was never opened anew"
    assert taken.by_hand == [True, True]


def test_a_body_that_is_refused_half_way_is_answered_and_its_rest_is_no_request(connection, taken):
    assert call(connection, "POST", "/refused", LARGE) == (413, b"too much")
    first = connection.sock
    assert len(taken.data) < len(LARGE)
    assert call(connection, "GET", "/file") == (200, LARGE)
    assert connection.sock is first


def test_a_request_that_was_sent_along_with_a_body_is_answered_after_it(port, taken):
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as wire:
        head = b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(LARGE)
        wire.sendall(head + LARGE + b"GET /file HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answers = b"".join(iter(lambda: wire.recv(1 << 20), b""))
    first, _, rest = answers.partition(str(len(LARGE)).encode() + b"HTTP/1.1 200 OK")
    assert first.startswith(b"HTTP/1.1 200 OK")
    assert rest.endswith(LARGE)
    assert bytes(taken.data) == LARGE


def test_a_request_that_was_sent_along_while_a_file_comes_is_answered_after_it(port):
    ask = b"GET /file HTTP/1.1\r\nhost: x\r\n%s\r\n"
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as wire:
        wire.sendall(ask % b"" + ask % b"connection: close\r\n")
        answers = b"".join(iter(lambda: wire.recv(1 << 20), b""))
    assert answers.count(LARGE) == 2
    assert answers.endswith(LARGE)


def test_whoever_reads_and_sends_in_crumbs_gets_and_gives_all_of_it(port, taken):
    # Small buffers: what is not read at once does not fit anywhere, and the thread gives itself back.
    with socket.socket() as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.settimeout(LIMIT_S)
        wire.connect(("127.0.0.1", port))
        wire.sendall(b"GET /file HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        got = b"".join(iter(lambda: wire.recv(65536), b""))
    assert got.endswith(LARGE)
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as wire:
        wire.sendall(b"POST /body HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(LARGE))
        for at in range(0, len(LARGE), 1 << 20):
            wire.sendall(LARGE[at : at + (1 << 20)])
            # The last 256 KiB of what came may wait for more to come: nobody is woken for them alone.
            _until(lambda at=at: len(taken.data) >= min(at + (1 << 20), len(LARGE)) - (256 << 10))
        assert b"200 OK" in wire.recv(1000)
    assert bytes(taken.data) == LARGE


def test_what_came_before_the_peer_hung_up_has_been_handed_over(port, taken):
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as wire:
        wire.sendall(b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(LARGE))
        wire.sendall(LARGE[: 3 << 20])
    assert taken.broken.wait(LIMIT_S)
    assert bytes(taken.data) == LARGE[: 3 << 20]


def test_a_client_that_asks_first_whether_to_send_is_told_to(port, taken):
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as wire:
        head = b"POST /body HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(LARGE)
        wire.sendall(head)
        assert wire.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.sendall(LARGE)
        assert b"200 OK" in wire.recv(1000)
    assert bytes(taken.data) == LARGE


def test_a_peer_that_hangs_up_in_the_middle_of_a_file_leaves_the_server_as_it_was(port, connection):
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as wire:
        wire.sendall(b"GET /file HTTP/1.1\r\nhost: x\r\n\r\n")
        wire.recv(1000)
    assert call(connection, "GET", "/file") == (200, LARGE)


def _until(reached):
    deadline = time.monotonic() + LIMIT_S
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)
