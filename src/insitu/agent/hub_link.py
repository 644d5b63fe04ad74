"""The only HTTP in the agent: it dials the hub, and nothing dials it.

HTTP/1.1 over TLS; proxies of the machine's environment are honoured. Every call
has a timeout. Errors become ours: `UnreachableError` when the hub did not answer
(try again), anything else as the hub's problem document says.

Syncing and sending events are what people wait for; unless a proxy stands between,
they go over connections of the standard library that stay open, at a third of the
client library's cost. Everything else is left to that.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import select
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from insitu.domain.digests import Digest
from insitu.domain.errors import (
    AuthenticationError,
    ConflictError,
    InsituError,
    IntegrityError,
    UnreachableError,
    error_from_dict,
)
from insitu.wire.envelopes import Envelope
from insitu.wire.events import BatchReply
from insitu.wire.keys import SigningKey
from insitu.wire.sync import JoinReply, JoinRequest, SyncReply, SyncRequest
from insitu.wire.tokens import issue_agent_token
from insitu.wire.wheels import WheelsReply, WheelsRequest

_CONNECT_S = 10.0
_CALL_S = 30.0
_CHUNK = 1 << 20  # bytes per upload request
_RENEW_AFTER = timedelta(minutes=4)


class HubLink:
    """Calls to one hub, as one site. Safe for threads."""

    def __init__(
        self,
        hub: str,
        *,
        site: str = "",
        key: SigningKey | None = None,
        ca_file: str | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._site, self._key, self._clock = site, key, clock
        self._token = ""
        self._issued = datetime.fromtimestamp(0, UTC)
        self._lock = threading.Lock()
        tls = httpx.create_ssl_context(verify=ca_file or True)
        self._open = None if _has_proxy(urlsplit(hub)) else _OpenConnections(urlsplit(hub), tls)
        self._http = httpx.Client(
            base_url=hub,
            verify=tls,
            timeout=httpx.Timeout(_CALL_S, connect=_CONNECT_S),
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=60),
        )

    def close(self) -> None:
        self._http.close()
        if self._open is not None:
            self._open.close()

    # -- calls ---------------------------------------------------------------------------------------------------------

    def join(self, token: str, public_key: str) -> JoinReply:
        """Use a one-time token to bind this site to a key.

        Raises:
            AuthenticationError: the token is unknown, used or expired.
        """
        request = JoinRequest(token=token, public_key=public_key)
        return JoinReply.model_validate(self._call("POST", "/agent/v1/join", json=request.model_dump(), signed=False))

    def sync(self, request: SyncRequest) -> SyncReply:
        """Tell what is; hear what should be. Waits up to `request.wait_s` at the hub."""
        body = request.model_dump_json().encode()
        return SyncReply.model_validate_json(self._post("/agent/v1/sync", body, timeout_s=request.wait_s + _CALL_S))

    def send_events(self, batch: bytes) -> int:
        """Send a batch (an `EventBatch` as JSON) that is in the ledger; the last number that the hub holds."""
        return BatchReply.model_validate_json(self._post("/agent/v1/events", batch)).acknowledged

    def fetch_blob(self, digest: Digest, target: Path) -> None:
        """Download a blob and keep it only if it is what its digest says; goes on where an earlier try stopped.

        Raises:
            UnreachableError: the transfer broke. What came is kept for the next try.
            IntegrityError: it isn't.
        """
        work = target.with_name(f".{target.name}.part")
        hasher, offset = _hash_of_part(work)
        if offset and "sha256:" + hasher.hexdigest() == digest:  # the last try ended before it said so
            work.replace(target)
            return
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            answer = self._send("GET", f"/agent/v1/blobs/{digest}", stream=True, headers=headers)
        except UnreachableError:
            raise
        except InsituError:
            work.unlink(missing_ok=True)  # longer than the blob, it could never be gone on with
            raise
        with answer as response:
            if offset and response.status_code != httpx.codes.PARTIAL_CONTENT:
                hasher, offset = hashlib.sha256(), 0
            with work.open("r+b" if offset else "wb") as out:
                out.seek(offset)
                try:
                    for chunk in response.iter_raw():  # as it comes: what has come before a break is kept
                        hasher.update(chunk)
                        out.write(chunk)
                except httpx.TransportError as exc:
                    raise self._unreachable(exc) from exc
        if "sha256:" + hasher.hexdigest() != digest:
            work.unlink()
            raise IntegrityError(
                "what the hub sent is not what was signed",
                code="blob-digest",
                why=f"asked for {digest}",
                hint="submit the job again; if it happens twice, the hub's store is damaged",
            )
        work.replace(target)

    def upload(self, path: Path, digest: Digest) -> None:
        """Upload a file in chunks with offsets; goes on where an earlier try stopped."""
        size = path.stat().st_size
        with path.open("rb") as stream:
            offset = self._offset(digest)
            while offset < size or size == 0:
                stream.seek(offset)
                chunk = stream.read(_CHUNK)
                headers = {"Upload-Offset": str(offset), "Upload-Length": str(size)}
                try:
                    self._call("POST", f"/agent/v1/uploads/{digest}", content=chunk, headers=headers)
                except ConflictError:
                    # Another try of ours got further: the hub says where it stands.
                    moved = self._offset(digest)
                    if moved == offset:
                        raise
                    offset = moved
                    continue
                offset += len(chunk)
                if size == 0:
                    return

    def _offset(self, digest: Digest) -> int:
        with self._send("HEAD", f"/agent/v1/uploads/{digest}") as response:
            return int(response.headers.get("Upload-Offset", "0"))

    def ask_for_wheels(self, request: WheelsRequest) -> WheelsReply:
        """How it stands with wheels of a lock at the hub. Waits up to `request.wait_s` there."""
        timeout = httpx.Timeout(request.wait_s + _CALL_S, connect=_CONNECT_S)
        body = request.model_dump_json().encode()
        return WheelsReply.model_validate(self._call("POST", "/agent/v1/wheels", content=body, timeout=timeout))

    def send_release(self, envelope: Envelope) -> None:
        """Hand over a sealed release whose files the hub holds. Repeating it changes nothing."""
        self._call("POST", "/agent/v1/releases", content=envelope.model_dump_json().encode())

    def send_card(self, envelope: Envelope) -> None:
        """Hand over the sealed card of a model that stays here. Repeating it changes nothing."""
        self._call("POST", "/agent/v1/cards", content=envelope.model_dump_json().encode())

    # -- how -----------------------------------------------------------------------------------------------------------

    def _authorization(self) -> dict[str, str]:
        if self._key is None:
            return {}
        with self._lock:
            now = self._clock()
            if now - self._issued > _RENEW_AFTER or now < self._issued:
                self._token, self._issued = issue_agent_token(self._site, self._key, now=now), now
            return {"Authorization": f"Bearer {self._token}"}

    def _post(self, path: str, body: bytes, *, timeout_s: float = _CALL_S) -> bytes:
        if self._open is None:
            timeout = httpx.Timeout(timeout_s, connect=_CONNECT_S)
            with self._send("POST", path, content=body, timeout=timeout) as response:
                return response.content
        headers = {"Content-Type": "application/json", **self._authorization()}
        try:
            status, answer = self._open.post(path, body, headers, timeout_s)
        except (OSError, http.client.HTTPException) as exc:
            raise self._unreachable(exc) from exc
        if status >= httpx.codes.BAD_REQUEST:
            raise _problem(status, answer)
        return answer

    def _call(self, method: str, path: str, *, signed: bool = True, **arguments: Any) -> Any:
        with self._send(method, path, signed=signed, **arguments) as response:
            return response.json() if response.content else None

    def _send(self, method: str, path: str, *, stream: bool = False, signed: bool = True, **arguments: Any) -> _Reply:
        headers = {"Content-Type": "application/json", **arguments.pop("headers", {})}
        if signed:
            headers |= self._authorization()
        timeout = arguments.pop("timeout", None)
        request = self._http.build_request(method, path, headers=headers, **arguments)
        if timeout is not None:
            request.extensions["timeout"] = timeout.as_dict()
        try:
            response = self._http.send(request, stream=stream)
            if response.is_error and stream:
                response.read()
        except httpx.TransportError as exc:
            raise self._unreachable(exc) from exc
        if response.is_error:
            raise _problem(response.status_code, response.content)
        return _Reply(response)

    def _unreachable(self, exc: Exception) -> UnreachableError:
        return UnreachableError(
            f"the hub at {self._http.base_url} did not answer",
            code="hub-unreachable",
            why=type(exc).__name__,
            hint="check the address, the proxy and the hub; work goes on here and is sent later",
        )


def _hash_of_part(path: Path) -> tuple[hashlib._Hash, int]:
    """The hash of what an earlier try has left, and how much that is."""
    hasher = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                hasher.update(chunk)
            return hasher, stream.tell()
    except FileNotFoundError:
        return hasher, 0


class _Reply:
    """A response as a context, closed at its end whether it was streamed or not."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    def __enter__(self) -> httpx.Response:
        return self._response

    def __exit__(self, *_: object) -> None:
        self._response.close()


def _has_proxy(hub: SplitResult) -> bool:
    """Whether the machine's environment has a proxy between this site and the hub."""
    proxies = getproxies()
    return bool(proxies.get(hub.scheme) or proxies.get("all")) and not proxy_bypass(hub.hostname or "")


class _OpenConnections:
    """Connections to one hub that are kept open between calls. Safe for threads: a call has one to itself."""

    def __init__(self, hub: SplitResult, tls: ssl.SSLContext) -> None:
        self._hub, self._tls = hub, tls
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []

    def post(self, path: str, body: bytes, headers: dict[str, str], timeout_s: float) -> tuple[int, bytes]:
        """The status and the body of the answer.

        Raises:
            OSError, HTTPException: there was none.
        """
        connection = self._take()
        try:
            connection.sock.settimeout(timeout_s)
            connection.request("POST", self._hub.path.rstrip("/") + path, body, headers)
            response = connection.getresponse()
            answer = response.read()
        except BaseException:
            connection.close()
            raise
        if not response.will_close:
            with self._lock:
                self._idle.append(connection)
        return response.status, answer

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

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
            connection = http.client.HTTPSConnection(host, self._hub.port, timeout=_CONNECT_S, context=self._tls)
        else:
            connection = http.client.HTTPConnection(host, self._hub.port, timeout=_CONNECT_S)
        connection.connect()
        return connection


def _readable(connection: http.client.HTTPConnection) -> bool:
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _problem(status: int, body: bytes) -> InsituError:
    try:
        document = json.loads(body)
        fields = {key: value for key, value in document.items() if isinstance(value, str)}
        code = int(document.get("exit_code", 1))
    except (ValueError, AttributeError):
        fields, code = {"what": f"the hub answered {status}"}, 1
    if status == httpx.codes.UNAUTHORIZED:
        return AuthenticationError(fields.get("what", "the hub does not know this site"), code=fields.get("code"))
    if status == httpx.codes.CONFLICT:
        return ConflictError(fields.get("what", "conflict"), code=fields.get("code"), hint=fields.get("hint", ""))
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return UnreachableError(
            fields.get("what", f"the hub answered {status}"), code="hub-failed", hint="it is tried again"
        )
    return error_from_dict(fields, exit_code=code)
