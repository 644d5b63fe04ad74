"""The only HTTP in the agent: it dials the hub, and nothing dials it.

HTTP/1.1 over TLS; proxies of the machine's environment are honoured. Every call
has a timeout. Errors become ours: `UnreachableError` when the hub did not answer
(try again), anything else as the hub's problem document says.

Syncing and sending events are what people wait for, and blobs are large; unless a
proxy stands between, both go over connections of the standard library that stay open
(`hub_connections`), at a third of the client library's cost. Everything else is left to that.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import httpx

from insitu.agent.hub_connections import (
    CALL_S,
    CONNECT_S,
    Bodies,
    ClientBodies,
    Incoming,
    OpenConnections,
    has_proxy,
    read_all,
)
from insitu.agent.transfers import RANGE_BEYOND_THE_END, Standing, Upload, download
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

_MOST_OF_A_PROBLEM = 64 << 10  # bytes
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
        self._http = httpx.Client(
            base_url=hub,
            verify=tls,
            timeout=httpx.Timeout(CALL_S, connect=CONNECT_S),
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=60),
        )
        address = urlsplit(hub)
        self._open = None if has_proxy(address) else OpenConnections(address, tls, self._unreachable)
        self._bodies: Bodies = self._open or ClientBodies(self._http, self._unreachable)

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
        return SyncReply.model_validate_json(self._post("/agent/v1/sync", body, timeout_s=request.wait_s + CALL_S))

    def send_events(self, batch: bytes) -> int:
        """Send a batch (an `EventBatch` as JSON) that is in the ledger; the last number that the hub holds."""
        return BatchReply.model_validate_json(self._post("/agent/v1/events", batch)).acknowledged

    def fetch_blob(self, digest: Digest, target: Path) -> None:
        """Download a blob and keep it only if it is what its digest says; goes on where an earlier try stopped.

        Raises:
            UnreachableError: the transfer broke. What came is kept for the next try.
            IntegrityError: it isn't.
            UnreachableError: the hub hung up, twice without a byte between. What came is kept for the next try.
        """
        download(lambda offset: self.open_blob(digest, offset), digest, target)

    def upload(self, path: Path, digest: Digest) -> None:
        """Upload a file in one request; goes on where an earlier try stopped.

        Raises:
            IntegrityError: the file is not what its digest says. The hub keeps nothing of it.
            UnreachableError: the hub hung up, twice without a byte between. What came is kept for the next try.
        """
        address = f"/agent/v1/uploads/{digest}"

        def stands() -> Standing:
            with self._send("HEAD", address) as response:
                headers = response.headers
                return Standing(int(headers.get("Upload-Offset", "0")), headers.get("Upload-Complete") == "?1")

        def send(file: BinaryIO, offset: int, size_bytes: int) -> None:
            headers = {"Upload-Offset": str(offset), "Upload-Length": str(size_bytes), **self._authorization()}
            status, answer = self._bodies.send_file(address, headers, file, offset, size_bytes - offset)
            if status >= httpx.codes.BAD_REQUEST:
                raise _problem(status, answer)

        with path.open("rb") as file:
            Upload(stands, send).finish(file)

    @contextmanager
    def open_blob(self, digest: Digest, offset: int = 0) -> Generator[Incoming]:
        """A blob from that byte on, as the hub sends it: unchecked. It may begin at its first byte all the same."""
        headers = self._authorization() | ({"Range": f"bytes={offset}-"} if offset else {})
        with self._bodies.get(f"/agent/v1/blobs/{digest}", headers) as incoming:
            if incoming.status >= httpx.codes.BAD_REQUEST and incoming.status != RANGE_BEYOND_THE_END:
                raise _problem(incoming.status, read_all(incoming, _MOST_OF_A_PROBLEM))
            yield incoming

    def ask_for_wheels(self, request: WheelsRequest) -> WheelsReply:
        """How it stands with wheels of a lock at the hub. Waits up to `request.wait_s` there."""
        timeout = httpx.Timeout(request.wait_s + CALL_S, connect=CONNECT_S)
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

    def _post(self, path: str, body: bytes, *, timeout_s: float = CALL_S) -> bytes:
        if self._open is None:
            timeout = httpx.Timeout(timeout_s, connect=CONNECT_S)
            with self._send("POST", path, content=body, timeout=timeout) as response:
                return response.content
        headers = {"Content-Type": "application/json", **self._authorization()}
        status, answer = self._open.post(path, body, headers, timeout_s)
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


class _Reply:
    """A response as a context, closed at its end whether it was streamed or not."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    def __enter__(self) -> httpx.Response:
        return self._response

    def __exit__(self, *_: object) -> None:
        self._response.close()


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
    if fields.get("code") == "digest-mismatch":
        return IntegrityError(fields["what"], code="digest-mismatch", why=fields.get("why", ""))
    return error_from_dict(fields, exit_code=code)
