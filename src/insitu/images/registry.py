"""One repository of an OCI registry over HTTP: the calls of the distribution specification 1.1 that we make.

Bytes from a registry are believed only after their digest was compared. A login
is sent to the registry itself and to the token server that it names, over TLS;
plain HTTP is for loopback, unless the settings say otherwise. What fails on the
way is tried again, an upload from where the registry says it stopped; what the
registry refuses is an error at once.
"""

from __future__ import annotations

import base64
import ipaddress
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import urljoin, urlsplit

import httpx

from insitu.domain.digests import Digest, check_digest, digest_of
from insitu.domain.errors import (
    AuthenticationError,
    DeniedError,
    InsituError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    UnreachableError,
)
from insitu.images.layout import INDEX, MANIFEST

_CHUNK_BYTES = 16 << 20  # of an upload: what a broken connection may cost
_MAX_MANIFEST_BYTES = 4 << 20  # the specification asks registries for at least this
_DOCKER = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_ACCEPTED = ", ".join((MANIFEST, INDEX, *_DOCKER))
_TRIED_AGAIN = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class RegistrySettings:
    """How to speak to a registry. Never printed whole: it may hold a password."""

    username: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)  # a ready bearer token, instead of a name and password
    plain_http: bool | None = None  # None: for loopback hosts only
    timeout_s: float = 30.0
    attempts: int = 4
    pause: Callable[[float], None] = field(default=time.sleep, repr=False)  # between attempts, seconds


class RepositoryClient:
    """Speaks to one repository. Not for several threads at once."""

    def __init__(self, host: str, name: str, settings: RegistrySettings | None = None) -> None:
        self._settings = settings or RegistrySettings()
        self.host, self.name = host, name
        # Docker Hub's registry has another name than its images.
        address = "registry-1.docker.io" if host in ("docker.io", "index.docker.io") else host
        self._origin = f"{'http' if self._is_plain(host) else 'https'}://{address}"
        self._root = f"{self._origin}/v2/{name}/"
        self._authorization = f"Bearer {self._settings.token}" if self._settings.token else ""
        # Unpacked on the way, bytes would no longer have their digest.
        headers = {"Accept-Encoding": "identity"}
        self._http = httpx.Client(timeout=self._settings.timeout_s, headers=headers, follow_redirects=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    # Blobs.

    def has_blob(self, digest: Digest) -> bool:
        return self._answer("HEAD", f"blobs/{digest}", missing_is_fine=True).status_code == httpx.codes.OK

    def mount_blob(self, digest: Digest, source: str) -> bool:
        """Take a blob over from another repository of this registry, without sending it. False: it wasn't possible."""
        answer = self._answer("POST", "blobs/uploads/", params={"mount": digest, "from": source})
        return answer.status_code == httpx.codes.CREATED  # else it opened an upload, which it forgets by itself

    def upload_blob(self, path: Path, digest: Digest, progress: Callable[[int], None] = lambda _: None) -> None:
        """Send a file, in chunks; `progress` is told the bytes of each.

        Raises:
            UnreachableError, AuthenticationError, DeniedError: the registry is away, or says no.
        """
        answer = self._answer("POST", "blobs/uploads/")
        place, sent = self._location(answer), 0
        size_bytes = path.stat().st_size
        with path.open("rb") as stream:
            while sent < size_bytes:
                place, now = self._upload_chunk(stream, sent, place)
                progress(now - sent)
                sent = now
        try:
            self._answer("PUT", place, params={"digest": digest})
        except NotFoundError:  # said twice, when the first answer was lost: then the upload is over, and the blob there
            if not self.has_blob(digest):
                raise

    def _upload_chunk(self, stream: IO[bytes], start: int, place: str) -> tuple[str, int]:
        for attempt in self._attempts():
            stream.seek(start)
            chunk = stream.read(_CHUNK_BYTES)
            span = f"{start}-{start + len(chunk) - 1}"
            headers = {"Content-Type": "application/octet-stream", "Content-Range": span}
            try:
                answer = self._send("PATCH", place, content=chunk, headers=headers)
            except httpx.TransportError as error:
                attempt.failed(error)
            else:
                if answer.status_code == httpx.codes.ACCEPTED:
                    return self._location(answer), start + len(chunk)
                if answer.status_code != httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                    self._refuse_unless_passing(answer)
                attempt.failed(answer)
            place, start = self._where_it_stopped(place, start)
        raise self._unreachable("the upload stopped again and again")

    def _where_it_stopped(self, place: str, start: int) -> tuple[str, int]:
        answer = self._answer("GET", place)
        last = re.fullmatch(r"(?:bytes=)?0-(\d+)", answer.headers.get("Range", ""))
        # The registry's "0-0" is both nothing and one byte: then the chunk is sent from where we were.
        return self._location(answer, place), int(last[1]) + 1 if last and int(last[1]) else start

    @contextmanager
    def blob(self, digest: Digest, size_bytes: int) -> Iterator[Iterator[bytes]]:
        """The bytes of a blob in pieces, at most as many as its descriptor says. The caller compares the digest.

        Raises:
            NotFoundError: the registry doesn't have it.
            IntegrityError: it sends more.
        """
        answer = self._answer("GET", f"blobs/{digest}", stream=True)
        try:
            yield _bounded(answer, size_bytes, f"blob {digest} of {self.host}/{self.name}")
        except httpx.TransportError as error:
            raise self._unreachable(str(error)) from error
        finally:
            answer.close()

    # Manifests.

    def manifest(self, wanted: str) -> tuple[bytes, str, Digest]:
        """A manifest by tag or digest: its bytes, media type and digest.

        Raises:
            NotFoundError: there is none.
            IntegrityError: it isn't what the digest says.
        """
        answer = self._answer("GET", f"manifests/{wanted}", headers={"Accept": _ACCEPTED}, stream=True)
        try:
            raw = b"".join(_bounded(answer, _MAX_MANIFEST_BYTES, f"the manifest of {self.host}/{self.name}"))
        except httpx.TransportError as error:
            raise self._unreachable(str(error)) from error
        finally:
            answer.close()
        if wanted.startswith("sha256:"):
            check_digest(raw, Digest(wanted), what=f"the manifest of {self.host}/{self.name}")
        return raw, answer.headers.get("Content-Type", "").partition(";")[0], digest_of(raw)

    def manifest_digest(self, wanted: str) -> Digest | None:
        """The digest that a tag has at the registry, by its own account; None: no such tag."""
        answer = self._answer("HEAD", f"manifests/{wanted}", headers={"Accept": _ACCEPTED}, missing_is_fine=True)
        found = answer.headers.get("Docker-Content-Digest", "")
        return Digest(found) if answer.status_code == httpx.codes.OK and found else None

    def put_manifest(self, raw: bytes, media_type: str, wanted: str) -> None:
        self._answer("PUT", f"manifests/{wanted}", content=raw, headers={"Content-Type": media_type})

    # Requests.

    def _answer(self, method: str, path: str, *, missing_is_fine: bool = False, **parts: Any) -> httpx.Response:
        """Ask until there is an answer; an error of ours for one that isn't good."""
        for attempt in self._attempts():
            try:
                answer = self._send(method, urljoin(self._root, path), **parts)
            except httpx.TransportError as error:
                attempt.failed(error)
                continue
            if answer.is_success or (missing_is_fine and answer.status_code == httpx.codes.NOT_FOUND):
                return answer
            answer.read()
            self._refuse_unless_passing(answer)
            attempt.failed(answer)
        raise self._unreachable("it did not answer")

    def _send(self, method: str, url: str, *, stream: bool = False, **parts: Any) -> httpx.Response:
        headers: Mapping[str, str] = parts.pop("headers", {})
        answer = self._send_once(method, url, headers, stream=stream, **parts)
        if answer.status_code == httpx.codes.UNAUTHORIZED and self._log_in(answer.headers.get("WWW-Authenticate", "")):
            answer.close()
            answer = self._send_once(method, url, headers, stream=stream, **parts)
        for _ in range(5):  # blobs often lie elsewhere; there our login has no business
            if not answer.has_redirect_location or method not in ("GET", "HEAD"):
                break
            answer.close()
            url = urljoin(url, answer.headers["Location"])
            answer = self._send_once(method, url, headers, stream=stream)
        return answer

    def _send_once(
        self, method: str, url: str, headers: Mapping[str, str], *, stream: bool, **parts: Any
    ) -> httpx.Response:
        self._check_address(url)
        same_origin = url.startswith(self._origin + "/")
        login = {"Authorization": self._authorization} if self._authorization and same_origin else {}
        if parts.get("params"):  # httpx would drop what the address has already
            parts["params"] = httpx.URL(url).params.merge(parts["params"])
        request = self._http.build_request(method, url, headers={**headers, **login}, **parts)
        return self._http.send(request, stream=stream)

    def _log_in(self, challenge: str) -> bool:
        """Answer a 401; False when there is nothing (new) to answer with."""
        settings = self._settings
        kind, _, rest = challenge.partition(" ")
        basic = httpx.BasicAuth(settings.username, settings.password) if settings.username else None
        before = self._authorization
        if kind.lower() == "basic" and basic is not None:
            pair = f"{settings.username}:{settings.password}".encode()
            self._authorization = f"Basic {base64.b64encode(pair).decode()}"
        elif kind.lower() == "bearer" and not settings.token:
            fields = dict(re.findall(r'(\w+)="([^"]*)"', rest))
            self._authorization = f"Bearer {self._fetch_token(fields, basic)}"
        return self._authorization != before

    def _fetch_token(self, fields: dict[str, str], basic: httpx.BasicAuth | None) -> str:
        realm = fields.pop("realm", "")
        self._check_address(realm)
        wanted = {name: fields[name] for name in ("service", "scope") if name in fields}
        answer = self._http.get(realm, params=wanted, auth=basic or httpx.USE_CLIENT_DEFAULT)
        if not answer.is_success:
            raise self._not_let_in(answer)
        found = answer.json()
        return str(found.get("token") or found.get("access_token") or "")

    def _check_address(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme == "https" or (parts.scheme == "http" and self._is_plain(parts.netloc)):
            return
        raise DeniedError(
            f"{self.host} leads to {parts.scheme}://{parts.netloc}",
            code="plain-http",
            rule="registries-over-tls",
            hint="use a registry with TLS, or allow plain HTTP for this one",
        )

    def _is_plain(self, host: str) -> bool:
        if self._settings.plain_http is not None:
            return self._settings.plain_http
        return _is_loopback(host)

    def _location(self, answer: httpx.Response, otherwise: str = "") -> str:
        place = answer.headers.get("Location", "") or otherwise
        if not place:
            raise InvalidInputError(f"{self.host} did not say where to upload to", hint="is it an OCI registry?")
        return urljoin(str(answer.request.url), place)

    # What went wrong.

    def _attempts(self) -> Iterator[_Attempt]:
        for number in range(self._settings.attempts):
            attempt = _Attempt()
            yield attempt
            if number + 1 == self._settings.attempts:
                raise self._unreachable(attempt.why)
            self._settings.pause(0.2 * 2**number * random.uniform(0.5, 1.5))  # noqa: S311 - spreads, hides nothing

    def _refuse_unless_passing(self, answer: httpx.Response) -> None:
        code = answer.status_code
        if code in _TRIED_AGAIN:
            return
        if code in (401, 403):
            raise self._not_let_in(answer)
        what = f"{answer.request.method} {answer.request.url.path} at {self.host}"
        if code == httpx.codes.NOT_FOUND:
            raise NotFoundError(f"not found: {what}", why=_said(answer), hint="check the name and the digest")
        raise InvalidInputError(f"the registry refused {what}", code="registry-refused", why=f"{code}: {_said(answer)}")

    def _not_let_in(self, answer: httpx.Response) -> InsituError:
        kind = DeniedError if answer.status_code == httpx.codes.FORBIDDEN else AuthenticationError
        return kind(
            f"{self.host} did not let us into {self.name}",
            why=_said(answer),
            hint="check the registry's user and password",
        )

    def _unreachable(self, why: str) -> UnreachableError:
        return UnreachableError(
            f"registry {self.host} can't be reached",
            code="registry-unreachable",
            why=why,
            hint="check that it runs and is reachable from here; what was sent already is kept, so try again",
        )


class _Attempt:
    """One try; remembers what the reader of an error should hear."""

    why = ""

    def failed(self, how: httpx.TransportError | httpx.Response) -> None:
        self.why = (
            f"{how.status_code}: {_said(how)}" if isinstance(how, httpx.Response) else str(how) or type(how).__name__
        )


def _said(answer: httpx.Response) -> str:
    try:
        errors = answer.json()["errors"]
        return "; ".join(f"{error['code']}: {error.get('message', '')}" for error in errors)[:300]
    except (httpx.ResponseNotRead, ValueError, KeyError, TypeError):
        return answer.reason_phrase


def _is_loopback(host: str) -> bool:
    name = (urlsplit(f"//{host}").hostname or "").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _bounded(answer: httpx.Response, limit_bytes: int, what: str) -> Iterator[bytes]:
    seen = 0
    for chunk in answer.iter_raw(1 << 20):
        seen += len(chunk)
        if seen > limit_bytes:
            raise IntegrityError(f"{what} is larger than it should be", limit=f"{limit_bytes} bytes")
        yield chunk
