"""The door to MLflow's server: who is asking, may they, and only then MLflow.

To be mounted in the hub's application: `app.mount("/mlflow", mlflow_app(…))`. It
has no start or stop of its own. In order: somebody known (a Bearer token, or HTTP
Basic with the token as password, which a browser asks for by itself); a call of the
allow-list; a body within bounds; for a write from a browser, from our own pages.
MLflow then sees the request without who asked: no credentials, no cookies, no
header that it would trust.

Every answer forbids the browser to talk to anywhere else, to be framed, or to guess
at types: MLflow's pages would send telemetry, and an artifact is a file that a job
wrote.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from insitu.domain.errors import AuthenticationError, DeniedError, InsituError, InvalidInputError, NotFoundError
from insitu.hub.mlflow_access import MAX_BODY_BYTES, checked_request, error_body, find_call, version_whose_files
from insitu.hub.mlflow_records import RESIDENT_TAG
from insitu.hub.tracking import Tracking
from insitu.wire.people import Role

Authenticate = Callable[[Mapping[str, str]], tuple[str, Role] | None]
"""Who a request comes from, by its headers (names in lower case); a Basic password has become a Bearer token."""

_HANDED_ON = frozenset({
    b"accept", b"accept-encoding", b"content-type", b"host", b"if-modified-since", b"if-none-match", b"if-range",
    b"range", b"user-agent",
})  # fmt: skip
_CHALLENGE = (b"www-authenticate", b'Basic realm="Insitu hub: any name, and your token as password", charset="UTF-8"')
_CONTENT_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "frame-ancestors 'self'; form-action 'self'; base-uri 'self'; object-src 'none'"
)
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"referrer-policy", b"same-origin"),
    (b"content-security-policy", _CONTENT_POLICY.encode()),
)


def mlflow_app(tracking: Tracking, authenticate: Authenticate) -> _Door:
    """MLflow's tracking server, registry and pages for people with a token of the hub."""
    return _Door(tracking, authenticate)


class _Door:
    def __init__(self, tracking: Tracking, authenticate: Authenticate) -> None:
        self._tracking = tracking
        self._authenticate = authenticate
        self._server: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # MLflow's pages use no WebSockets. Closing before accepting is answered with 403.
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            inner, replay = await self._admit(scope, receive)
            server = self._mlflow()
        except InsituError as error:
            await _answer_error(error, send)
            return
        await server(inner, replay, _with_headers(send))

    def _mlflow(self) -> ASGIApp:
        if self._server is None:
            if not self._tracking.ready:
                self._tracking.wait_ready(0)
            from insitu.hub.mlflow_server import build_server  # noqa: PLC0415 - takes seconds; `Tracking` did it

            self._server = build_server(self._tracking.stores)
        return self._server

    def _check_left(self, name: str, version: int) -> None:
        """Raise for a model that may be used at its site only: MLflow has no files of it, and would not say why.

        Raises:
            DeniedError: it is one.
        """
        with suppress(NotFoundError):  # MLflow says it in its own words
            site = self._tracking.get_version(name, version).tags.get(RESIDENT_TAG)
            if site:
                raise DeniedError(
                    f"{name[:80]}:{version} is resident at {site}: it may be used there, and its files never left",
                    code="resident",
                    rule="resident",
                    measure="its files were asked for",
                    limit=f"served at {site} only",
                    hint=f"insitu deploy {name[:80]}:{version} --site {site}",
                )

    async def _admit(self, scope: Scope, receive: Receive) -> tuple[Scope, Receive]:
        """The request as MLflow may see it.

        Raises:
            AuthenticationError: nobody is known by these headers.
            DeniedError, NotFoundError, InvalidInputError: it may not be asked, or not like this.
        """
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        # 1. Somebody. A stranger learns nothing more than that.
        person = await run_in_threadpool(self._authenticate, _with_bearer(headers))
        if person is None:
            raise AuthenticationError(
                "MLflow at this hub is for people with a token",
                hint="set MLFLOW_TRACKING_TOKEN; in a browser, give any name and the token as password",
            )
        # 2. A call of the list, for their role.
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        call = find_call(scope["method"], path, person[1])
        # 3. A write comes from a program or from our own pages.
        if call.fields:
            _check_origin(headers)
        # 4. Within bounds, and holding only what was checked.
        query, body = checked_request(call, scope["query_string"], await _read(receive))
        # 5. Files that left their site.
        asked = version_whose_files(path, query)
        if asked is not None:
            await run_in_threadpool(self._check_left, *asked)
        inner = {**scope, "query_string": query, "headers": _handed_on(scope, body)}
        return inner, _replay(body, receive)


def _with_bearer(headers: Mapping[str, str]) -> Mapping[str, str]:
    """A Basic password is a token: browsers know no other way to send one."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return headers
    try:
        decoded = base64.b64decode(credentials, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        decoded = ""
    return {**headers, "authorization": f"Bearer {decoded.partition(':')[2]}"}


def _check_origin(headers: Mapping[str, str]) -> None:
    """A browser sends its password to us from anybody's page, but says whose page it was.

    Fetch metadata where the browser sends it (W3C Fetch Metadata Request Headers),
    else the Origin header (RFC 6454). Programs send neither.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    own = site in {"same-origin", "none"} if site else not origin or urlsplit(origin).netloc == headers.get("host")
    if not own:
        raise DeniedError("the request comes from another site's page", code="cross-site", rule="cross-site")


async def _read(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidInputError("the request was broken off")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            raise InvalidInputError(
                "the request is too large", measure=f"over {MAX_BODY_BYTES} bytes", limit=f"{MAX_BODY_BYTES} bytes"
            )
        if not message.get("more_body"):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """`receive` once more, with the body that was checked."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


def _handed_on(scope: Scope, body: bytes) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in scope["headers"] if name.lower() in _HANDED_ON]
    if body:
        kept = [(name, value) for name, value in kept if name.lower() != b"content-type"]
        kept += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    return kept


def _with_headers(send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            ours = {name for name, _ in _HEADERS}
            ours |= {b"date", b"server"}  # the outer server says these
            theirs = [(name, value) for name, value in message.get("headers", []) if name.lower() not in ours]
            message = {**message, "headers": [*theirs, *_HEADERS]}
        await send(message)

    return guarded


async def _answer_error(error: InsituError, send: Send) -> None:
    status, body = error_body(error)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *_HEADERS]
    if status == 401:
        headers.append(_CHALLENGE)
    if status == 503:
        headers.append((b"retry-after", b"2"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
