"""HTTP/1.1 for one job over one unix socket: keep-alive, bodies bounded, files streamed.

A protocol of our own on httptools, since a call must cost the script next to
nothing: no tasks, no routing of headers, one `write` an answer. Calls are
answered in the order of their arrival and nothing is awaited but a slow reader.

Every request is read to its end before it is answered, also one that will be
refused: the MLflow client takes a connection that breaks while it sends for a
network failure, and repeats the call for minutes. What is over the bound is
dropped as it comes. A peer that speaks no HTTP, or sends calls without taking
the answers, is cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

import httptools

from insitu.domain.errors import UnavailableError
from insitu.intake.api import Api, artifact_address, is_artifact
from insitu.intake.artifacts import Upload
from insitu.intake.calls import DONE, CallRefused, Response
from insitu.intake.feed import Ask, Told, ask
from insitu.intake.inputs import PREFIX as INPUTS
from insitu.intake.inputs import Head, Inputs, refusal_of

MAX_CONNECTIONS = 256
_MAX_HEAD_BYTES = 64 << 10
_CHUNK_BYTES = 256 << 10
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_HEAD = b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n"
_DONE_BYTES = _HEAD % (200, b"OK", b"application/json", len(DONE.body)) + DONE.body
_WRITTEN = Response(0, b"")
"""Somebody else writes this answer, or has: a short file may be gone before we are back here."""
_READ_HEADERS = frozenset({b"range", b"if-range", b"if-match"})
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connections:
    """What the connections of one job share.

    Args:
        inputs, feed: what the job reads through us, and the agent's socket that has the bytes.
        feed_wait_s: how long an agent may be away before that is an error.
        give_up: called when events can't be written any more; the process must end, and the attempt with it.
        note: told the name of an error of ours, never its text.
    """

    def __init__(
        self,
        api: Api,
        *,
        inputs: Inputs,
        feed: Path | None,
        feed_wait_s: float,
        most_body_bytes: int,
        give_up: Callable[[UnavailableError], None],
        note: Callable[[str], None],
    ) -> None:
        self.api = api
        self.inputs = inputs
        self._feed, self._feed_wait_s = feed, feed_wait_s
        self._feeding: set[asyncio.Task[None]] = set()
        self.most_body_bytes = most_body_bytes
        self.open: set[JobConnection] = set()
        self._give_up = give_up
        self._note = note

    def answer(self, make: Callable[[], Response]) -> Response | None:
        """What `make` returns; a refusal or a fault of ours as MLflow's error; None when the process is ending."""
        try:
            return make()
        except CallRefused as refusal:
            return refusal.response()
        except UnavailableError as exc:
            self._give_up(exc)
            return None
        except Exception as exc:  # noqa: BLE001 - one call's fault must not end the job
            self._note(type(exc).__name__)
            return CallRefused("INTERNAL_ERROR", "the gate failed to answer this call").response()

    def feed(self, wanted: Ask, transport: asyncio.Transport, done: Callable[[Told], None]) -> None:
        """Let the agent answer on a connection; `done` hears how it went."""

        async def feed() -> None:
            if self._feed is None:
                done(Told(0, "no-feed", "this job reads nothing through its gate"))
            else:
                done(
                    await ask(self._feed, wanted, transport.get_extra_info("socket").fileno(), wait_s=self._feed_wait_s)
                )

        task = asyncio.get_running_loop().create_task(feed())
        self._feeding.add(task)
        task.add_done_callback(self._feeding.discard)

    def settle(self) -> None:
        """Let what the answered call has logged be decided; the script goes on meanwhile."""
        try:
            self.api.settle()
        except UnavailableError as exc:
            self._give_up(exc)
        except Exception as exc:  # noqa: BLE001 - what it failed on stays, and the job goes on
            self._note(type(exc).__name__)


class JobConnection(asyncio.Protocol):
    """One connection. httptools calls the `on_…` methods while it is fed."""

    def __init__(self, shared: Connections) -> None:
        self._shared = shared
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._head_bytes = 0
        self._in_head = True
        self._url = b""
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._upload: Upload | None = None
        self._refusal: CallRefused | None = None
        self._keep_alive = True
        self._download: tuple[BinaryIO, int] | None = None
        self._fed: Ask | None = None
        self._headers: dict[str, str] = {}
        self._writable = True

    # ── asyncio ─────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if len(self._shared.open) >= MAX_CONNECTIONS:
            transport.abort()
            return
        self._shared.open.add(self)
        # A call is read only when all that was answered before has been taken: then somebody else may write here.
        transport.set_write_buffer_limits(high=0)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._shared.open.discard(self)
        self._transport = None
        if self._upload is not None:
            self._upload.abort()
        if self._download is not None:
            self._download[0].close()

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.cut()
            return
        if self._in_head and self._head_bytes > _MAX_HEAD_BYTES:
            self.cut()

    def pause_writing(self) -> None:
        self._writable = False
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._writable = True
        if self._download is not None:
            self._pump()
        elif self._transport is not None and self._fed is None:
            self._transport.resume_reading()

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Send what is written, then close."""
        if self._transport is not None:
            self._transport.close()

    # ── httptools ───────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        if self._download is not None or self._fed is not None or not self._writable:
            raise httptools.HttpParserError("a further call before the answer to the last was taken")
        self._url = b""
        self._headers = {}
        self._body = []
        self._body_bytes = 0
        self._upload = None
        self._refusal = None
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"expect" and value.lower() == b"100-continue" and self._transport is not None:
            self._transport.write(_CONTINUE)
        if name.lower() in _READ_HEADERS:
            self._headers[name.lower().decode("ascii")] = value.decode("ascii", "replace")

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        self._keep_alive = self._parser.should_keep_alive()
        if self._parser.get_method() == b"PUT" and is_artifact(self._target()):
            try:
                self._upload = self._shared.api.artifacts.upload(artifact_address(self._target()))
            except CallRefused as refusal:
                self._refusal = refusal
            except OSError:
                self._refusal = CallRefused("REQUEST_TOO_LARGE", "the site's disk could not take the artifact")

    def on_body(self, data: bytes) -> None:
        if self._upload is not None:
            self._upload.write(data)
            return
        self._body_bytes += len(data)
        if self._refusal is not None:
            return
        if self._body_bytes > self._shared.most_body_bytes:
            self._refusal = CallRefused("REQUEST_TOO_LARGE", f"a call may have {self._shared.most_body_bytes} bytes")
            self._body = []
            return
        self._body.append(data)

    def on_message_complete(self) -> None:
        self._in_head = True
        response = self._shared.answer(self._respond)
        if response is None:
            self.cut()
        elif response is not _WRITTEN:
            self._write(response)
            self._end_if_asked()
        self._shared.settle()

    # ── Answers ─────────────────────────────────────────────────────────────

    def _target(self) -> str:
        return self._url.decode("ascii", "replace")

    def _respond(self) -> Response:
        if self._refusal is not None:
            raise self._refusal
        if self._upload is not None:
            upload, self._upload = self._upload, None
            upload.commit()
            return DONE
        method, target = self._parser.get_method().decode("ascii", "replace"), self._target()
        if method == "GET" and is_artifact(target):
            self._start_download(*self._shared.api.artifacts.open(artifact_address(target)))
            return _WRITTEN
        if target.startswith(INPUTS):
            return self._read_input(method, target)
        return self._shared.api.handle(method, target, b"".join(self._body))

    def _read_input(self, method: str, target: str) -> Response:
        answer = self._shared.inputs.answer(method, target, self._headers)
        if isinstance(answer, Ask):
            self._start_feed(answer)
            return _WRITTEN
        if isinstance(answer, Head):
            return Response(0, answer.text.encode())
        return answer

    def _write(self, response: Response) -> None:
        if self._transport is None:
            return
        if response is DONE:
            self._transport.write(_DONE_BYTES)
            return
        if not response.status:  # it has its head with it, and no body
            self._transport.write(response.body)
            return
        kind = response.content_type.encode()
        reason = response.reason.encode("ascii", "replace") or _REASONS.get(response.status, b"Error")
        head = _HEAD % (response.status, reason, kind, len(response.body))
        self._transport.write(head + response.body)

    def _start_feed(self, wanted: Ask) -> None:
        assert self._transport is not None
        self._fed = wanted
        self._transport.pause_reading()  # the agent writes on this connection meanwhile, and nobody else
        self._shared.feed(wanted, self._transport, self._end_feed)

    def _end_feed(self, told: Told) -> None:
        wanted, self._fed = self._fed, None
        if self._transport is None or wanted is None:
            return
        if told.code and not told.sent:
            self._write(refusal_of(told))
        elif told.sent != wanted.length:  # what was promised in the head can't be kept
            self.cut()
            return
        self._transport.resume_reading()
        self._end_if_asked()

    def _start_download(self, file: BinaryIO, size_bytes: int) -> None:
        assert self._transport is not None
        self._download = (file, size_bytes)
        self._transport.pause_reading()
        self._transport.write(_HEAD % (200, b"OK", b"application/octet-stream", size_bytes))
        if self._writable:
            self._pump()

    def _pump(self) -> None:
        """Write on until the reader is slower than the disk, or the file ends."""
        while self._download is not None and self._writable and self._transport is not None:
            file, left = self._download
            chunk = file.read(min(_CHUNK_BYTES, left)) if left else b""
            if not chunk:
                file.close()
                self._download = None
                if left:  # replaced by a shorter one meanwhile: what was promised can't be kept
                    self.cut()
                    return
                self._transport.resume_reading()
                self._end_if_asked()
                return
            self._download = (file, left - len(chunk))
            self._transport.write(chunk)

    def _end_if_asked(self) -> None:
        if not self._keep_alive:
            self.close()
