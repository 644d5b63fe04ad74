"""HTTP to the hub: a bearer token, time-outs, and the hub's problem documents as errors."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from insitu.domain.errors import AuthenticationError, ConflictError, InsituError, UnreachableError, error_from_dict
from insitu.sdk.config import Login


class MissingBlobsError(ConflictError):
    """The hub wants bytes first; `missing` names them by digest."""

    def __init__(self, missing: list[str]) -> None:
        super().__init__("the hub lacks some of the job's parts", code="missing-blobs")
        self.missing = missing


class Transport:
    """One hub, as one person. `carrier` is how bytes get there; the network's, when none is given."""

    def __init__(self, login: Login, *, timeout_s: float = 30.0, carrier: httpx.BaseTransport | None = None) -> None:
        self.hub = login.hub.rstrip("/")
        self._http = httpx.Client(
            base_url=self.hub,
            headers={"Authorization": f"Bearer {login.token}"},
            timeout=httpx.Timeout(timeout_s, connect=10.0),
            verify=ssl.create_default_context(cafile=login.ca_file) if login.ca_file else True,
            transport=carrier,
        )

    def close(self) -> None:
        self._http.close()

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """The JSON answer of one call.

        Raises:
            UnreachableError: the hub did not answer.
            InsituError: what the hub said.
        """
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.TransportError as exc:
            raise self._unreachable(exc) from exc
        if response.is_error:
            raise problem(response)
        return response.json() if response.content else None

    def download(self, path: str) -> bytes:
        try:
            response = self._http.get(path)
        except httpx.TransportError as exc:
            raise self._unreachable(exc) from exc
        if response.is_error:
            raise problem(response)
        return response.content

    @contextmanager
    def stream(self, method: str, path: str, **arguments: Any) -> Iterator[httpx.Response]:
        """An endless answer, to be read by `lines`. Silence for a minute is an error: the hub sends pings.

        Raises:
            UnreachableError: the hub did not answer.
            InsituError: what the hub said.
        """
        timeout = httpx.Timeout(60.0, connect=10.0)
        try:
            with self._http.stream(method, path, timeout=timeout, **arguments) as response:
                if response.is_error:
                    response.read()
                    raise problem(response)
                yield response
        except httpx.TransportError as exc:
            raise self._unreachable(exc) from exc

    def lines(self, response: httpx.Response) -> Iterator[str]:
        """The lines of a stream, as they come.

        Raises:
            UnreachableError: it broke off, or was silent for too long.
        """
        try:
            yield from response.iter_lines()
        except httpx.TransportError as exc:
            raise self._unreachable(exc) from exc

    def broke_off(self) -> UnreachableError:
        """That an answer ended before it said what it had to."""
        return self._unreachable(EOFError())

    def _unreachable(self, exc: Exception) -> UnreachableError:
        return UnreachableError(
            f"the hub at {self.hub} did not answer",
            code="hub-unreachable",
            why=type(exc).__name__,
            hint="check the address, the proxy, and that `insitu hub start` runs there",
        )


def problem(response: httpx.Response) -> InsituError:
    """A problem document (RFC 9457) as the error that it describes."""
    try:
        document = response.json()
        fields = {key: value for key, value in document.items() if isinstance(value, str)}
    except (ValueError, AttributeError):
        return InsituError(f"the hub answered {response.status_code}", code="hub-failed")
    if document.get("missing"):
        return MissingBlobsError(list(document["missing"]))
    if response.status_code == httpx.codes.UNAUTHORIZED:
        return AuthenticationError(
            fields.get("what", "the hub does not know this token"),
            code=fields.get("code"),
            hint=fields.get("hint") or "log in again with `insitu login`",
        )
    fields.setdefault("what", f"the hub answered {response.status_code}")
    return error_from_dict(fields, exit_code=int(document.get("exit_code", 1)))
