"""The server in the image, with a handler that the test holds in its hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from insitu.serving.http_server import Limits, Reply, Request, Server

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Bench:
    """A server on a unix socket, and what its handler was asked."""

    def __init__(self, server: Server, path: str) -> None:
        self.server = server
        self.path = path
        self.asked: list[Request] = []
        self.held: list[Callable[[Reply], None]] = []
        self.hold = False
        self.writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> Stream:
        reader, writer = await asyncio.open_unix_connection(self.path)
        self.writers.append(writer)
        return reader, writer

    async def say(self, raw: bytes) -> bytes:
        """All that is answered until the server closes."""
        reader, writer = await self.connect()
        writer.write(raw)
        return await asyncio.wait_for(reader.read(), 20)


def on_bench(work: Callable[[Bench], Awaitable[None]], folder: Path, limits: Limits = Limits()) -> None:
    async def run() -> None:
        def handler(request: Request, respond: Callable[[Reply], None]) -> None:
            bench.asked.append(request)
            if bench.hold:
                bench.held.append(respond)
            else:
                respond(Reply(200, b"%d" % len(request.body), "text/plain"))

        server = Server(handler, limits)
        bench = Bench(server, str(folder / "s"))
        await server.listen(uds=bench.path)
        try:
            await work(bench)
        finally:
            for writer in bench.writers:
                writer.close()
            await server.drain(0.1)

    asyncio.run(run())


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_true():  # noqa: ASYNC110 - the server tells nobody what is waited for
            await asyncio.sleep(0.001)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # the address of a unix socket has 108 bytes
    return Path()


GET = b"GET /ping HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /invocations HTTP/1.1\r\nHost: a\r\n"
CLOSE = b"Connection: close\r\n"

REFUSED = {
    "no request line": (b"hello\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "another version": (b"GET / HTTP/3\r\nHost: a\r\n\r\n", 505),
    "two lengths": (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    "a length that is no number": (POST + b"Content-Length: ten\r\n\r\n", 400),
    "a length and chunks": (POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "another encoding": (POST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    "a space before the colon": (POST + b"Content-Length : 1\r\n\r\n", 400),
    "a folded header": (POST + b"X: a\r\n b\r\n\r\n", 400),
    "a bare line feed": (POST + b"X: a\nContent-Length: 5\r\n\r\n", 400),
    "a head that is too long": (GET + b"X: " + b"a" * 20_000 + b"\r\n\r\n", 431),
    "too many headers": (GET + b"".join(b"X%d: a\r\n" % at for at in range(70)) + b"\r\n", 431),
    "a body that is too long": (POST + b"Content-Length: 99999999\r\n\r\n", 413),
    "chunks that are too long": (POST + b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n", 413),
    "a chunk's size that is no number": (POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    "a chunk that ends elsewhere": (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 400),
}


@pytest.mark.parametrize(("raw", "status"), REFUSED.values(), ids=REFUSED)
def test_what_could_be_read_in_two_ways_is_refused_and_closed(folder, raw, status):
    async def work(bench: Bench) -> None:
        answer = await bench.say(raw + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert answer.count(b"Content-Length") == 1
        assert not bench.asked

    on_bench(work, folder)


def test_requests_sent_at_once_are_answered_one_after_another(folder):
    async def work(bench: Bench) -> None:
        chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nT: x\r\n\r\n"
        answer = await bench.say(GET + b"\r\n" + chunked + POST + CLOSE + b"Content-Length: 4\r\n\r\nbody")
        bodies = [part.split(b"\r\n\r\n")[1] for part in answer.split(b"HTTP/1.1 200 OK\r\n")[1:]]
        assert bodies == [b"0", b"5", b"4"]
        assert [request.body for request in bench.asked] == [b"", b"abcde", b"body"]

    on_bench(work, folder)


def test_a_request_is_read_however_it_is_cut(folder):
    raw = POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"

    async def work(bench: Bench) -> None:
        reader, writer = await bench.connect()
        for at in range(len(raw)):
            writer.write(raw[at : at + 1])
            await writer.drain()
            await asyncio.sleep(0)
        assert (await reader.readuntil(b"\r\n\r\n3")).startswith(b"HTTP/1.1 200 OK\r\n")
        assert bench.asked[0].body == b"abc"

    on_bench(work, folder)


def test_a_head_request_gets_a_head(folder):
    async def work(bench: Bench) -> None:
        answer = await bench.say(b"HEAD /ping HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n")
        assert b"Content-Length: 1\r\n" in answer
        assert answer.endswith(b"\r\n\r\n")

    on_bench(work, folder)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"GET / HT", b"408", id="half a head"),
        pytest.param(POST + b"Content-Length: 9\r\n\r\nhalf", b"408", id="half a body"),
        pytest.param(b"", b"", id="nothing at all"),
    ],
)
def test_a_caller_who_dawdles_is_let_go(folder, sent, status):
    async def work(bench: Bench) -> None:
        answer = await bench.say(sent)
        assert answer.startswith(b"HTTP/1.1 " + status if status else b"")
        assert bool(answer) == bool(status)

    on_bench(work, folder, Limits(head_s=0.05, body_s=0.05, idle_s=0.05))


def test_an_answer_that_takes_too_long_is_a_504_and_comes_only_once(folder):
    async def work(bench: Bench) -> None:
        bench.hold = True
        reader, writer = await bench.connect()
        writer.write(GET + b"\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        assert head.startswith(b"HTTP/1.1 504 ")
        await reader.readuntil(b"}")
        bench.held[0](Reply(200, b"late"))
        bench.hold = False
        writer.write(GET + b"\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")

    on_bench(work, folder, Limits(answer_s=0.05))


def test_more_connections_than_allowed_are_told_so(folder):
    async def work(bench: Bench) -> None:
        for _ in range(2):
            _, writer = await bench.connect()
            writer.write(GET + b"\r\n")
        await until(lambda: len(bench.asked) == 2)
        assert (await bench.say(b"")).startswith(b"HTTP/1.1 503 ")

    on_bench(work, folder, Limits(connections=2))


def test_many_large_bodies_at_once_are_bounded_and_the_room_comes_back(folder):
    async def work(bench: Bench) -> None:
        whole = POST + b"Content-Length: 600\r\n\r\n"
        reader, writer = await bench.connect()
        writer.write(whole)
        await until(lambda: bench.server.held_bytes > 0)
        assert (await bench.say(whole + b"x" * 600)).startswith(b"HTTP/1.1 503 ")
        writer.write(b"x" * 600)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert bench.server.held_bytes == 0
        _, gone = await bench.connect()
        gone.write(whole)
        await until(lambda: bench.server.held_bytes > 0)
        gone.close()
        await until(lambda: bench.server.held_bytes == 0)

    on_bench(work, folder, Limits(bodies_bytes=1000))


def test_draining_answers_what_was_asked_and_takes_nothing_new(folder):
    async def work(bench: Bench) -> None:
        bench.hold = True
        reader, writer = await bench.connect()
        idle, _ = await bench.connect()
        writer.write(GET + b"\r\n")
        await until(lambda: bool(bench.held))
        draining = asyncio.create_task(bench.server.drain(20))
        assert await asyncio.wait_for(idle.read(), 20) == b""
        assert not draining.done()
        bench.held[0](Reply(200, b"done"))
        answer = await asyncio.wait_for(reader.read(), 20)
        assert b"Connection: close\r\n" in answer
        assert answer.endswith(b"done")
        await asyncio.wait_for(draining, 20)
        with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
            await bench.connect()

    on_bench(work, folder)
