"""Files as answers and as bodies, at the speed of the link: large reads and writes in threads, the next one begun early.

A framework's own way moves 64 KiB at a time, each with a thread's way there and
back: a fifth of what loopback carries. Here it is a mebibyte at a time, read while
the one before is on its way, and never more than two of them in memory for each
transfer. Without TLS a large file goes past all that (`bulk_connection`).
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from insitu.hub.api.bodies import broken_off, pieces
from insitu.hub.bulk_connection import BrokenOffError, bulk_of

_READ = 1 << 20  # bytes
_WORTH_A_THREAD = 1 << 20  # bytes
_ONE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class FileBody(Response):
    """A file that nobody changes, whole or one range of it (RFC 9110, 14). Several ranges get the whole.

    Args:
        digest: of the whole, if it is known; its entity tag.
    """

    media_type = "application/octet-stream"

    def __init__(self, path: Path, digest: str = "") -> None:
        self._path = path
        super().__init__(headers={"Accept-Ranges": "bytes", **({"ETag": f'"{digest}"'} if digest else {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        file = await run_in_threadpool(os.open, self._path, os.O_RDONLY)
        try:
            size = os.fstat(file).st_size
            begin, end = self._range(Headers(scope=scope), size)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
            elif (bulk := bulk_of(scope)) is not None and end - begin >= _WORTH_A_THREAD:
                await bulk.send(file, begin, end)
                await send({"type": "http.response.body", "body": b""})
            else:
                await _send_file(file, begin, end, receive, send)
        finally:
            os.close(file)

    def _range(self, headers: Headers, size: int) -> tuple[int, int]:
        """Which bytes to send, and what the head says of it."""
        begin, end = 0, size
        wanted = _ONE_RANGE.fullmatch(headers.get("range", "").strip())
        as_it_was = headers.get("if-range", self.headers.get("etag")) == self.headers.get("etag")
        if wanted is not None and wanted.group(0) != "bytes=-" and as_it_was:
            begin, end = _bounds(wanted.group(1), wanted.group(2), size)
            self.status_code = 206
            self.headers["content-range"] = f"bytes {begin}-{end - 1}/{size}"
            if begin >= end:
                begin = end = 0
                self.status_code = 416
                self.headers["content-range"] = f"bytes */{size}"
        self.headers["content-length"] = str(end - begin)
        return begin, end


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


async def _send_file(file: int, begin: int, end: int, receive: Receive, send: Send) -> None:
    if begin == end:
        await send({"type": "http.response.body", "body": b""})
        return
    gone = asyncio.ensure_future(_hung_up(receive))  # what is sent from then on would be read for nobody
    ahead = _read(file, begin, end)
    try:
        while begin < end and not gone.done():
            data = await ahead
            if not data:
                raise EOFError("a stored file is shorter than it was")
            begin += len(data)
            ahead = _read(file, begin, end)
            await send({"type": "http.response.body", "body": data, "more_body": begin < end})
    finally:
        gone.cancel()
        await asyncio.wait([ahead])  # it reads from the file that is about to be closed


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _read(file: int, begin: int, end: int) -> asyncio.Future[bytes]:
    return asyncio.ensure_future(run_in_threadpool(os.pread, file, min(_READ, end - begin), begin))


async def take_body(request: Request, write: Callable[[Any], object]) -> None:
    """A body, handed on in large pieces in a thread, or while the next one arrives.

    What came before it broke off has been handed on by then. A piece is bytes, or memory that is written over as
    `running_digest` says.

    Raises:
        InvalidInputError: it broke off. Whatever `write` raises.
    """
    length = request.headers.get("content-length", "")
    if (bulk := bulk_of(request.scope)) is not None and length.isdecimal() and int(length) >= _WORTH_A_THREAD:
        try:
            await bulk.take(int(length), write)
        except BrokenOffError as exc:
            raise broken_off() from exc
        return
    writing: asyncio.Future[None] | None = None
    try:
        async for parts in pieces(request):
            if writing is not None:
                await writing
            writing = asyncio.ensure_future(run_in_threadpool(_write, write, parts))
    finally:
        if writing is not None:
            await writing


def _write(write: Callable[[Any], object], parts: list[bytes]) -> None:
    for part in parts:
        write(part)
