"""Fetches wheels from a package index: for a hub, and for somebody who packs a bundle. Agents never come here.

Whoever submits a job writes its lock, and with it the addresses of wheels. A hub
that followed them anywhere could be made to knock on doors in its own network, so
it follows only to hosts that it was told of; with an index of its own, the lock's
addresses are not looked at. What arrives is believed by its hash alone.

Indexes answer as PEP 503 (HTML) or PEP 691 (JSON) say.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, BinaryIO, cast
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import httpx

from insitu.domain.errors import DeniedError, InsituError, IntegrityError, NotFoundError, UnreachableError
from insitu.domain.images import LockedWheel
from insitu.images.bytecode import normalised
from insitu.images.wheel_store import WheelStore

PYPI_HOSTS = frozenset({"files.pythonhosted.org", "pypi.org"})
_TRIES = 4
_MOST_REDIRECTS = 5
_MAX_PAGE_BYTES = 64 << 20  # of an index's page of one project; the largest today have some 10 MB
_SIMPLE = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"


@dataclass(frozen=True)
class WheelSource:
    """Where wheels may come from. Never printed whole: an index's address may hold a password."""

    index_url: str = field(default="", repr=False)  # an index that has them all; empty: the addresses in the lock
    hosts: frozenset[str] | None = PYPI_HOSTS  # that a lock's addresses may name; None: any
    timeout_s: float = 30.0
    max_bytes: int = 8 << 30  # of one wheel
    pause: Callable[[float], None] = field(default=time.sleep, repr=False)


class WheelDownload:
    """Downloads into a store. Safe for threads."""

    def __init__(self, source: WheelSource) -> None:
        self._source = source
        # Unpacked on the way, bytes would no longer have their hash.
        self._http = httpx.Client(
            timeout=httpx.Timeout(source.timeout_s, connect=10.0),
            headers={"Accept-Encoding": "identity"},
            follow_redirects=False,
        )

    def close(self) -> None:
        self._http.close()

    def fetch(self, wheel: LockedWheel, store: WheelStore) -> None:
        """Have the wheel in the store. A download that breaks goes on where it stopped.

        Raises:
            UnreachableError: the index or the file's host does not answer.
            NotFoundError: the index has no such file.
            DeniedError: the lock names a host that is not among those it may name.
            IntegrityError: what came has another hash; nothing of it is kept.
        """
        if store.find(wheel) is not None:
            return
        address = self._address(wheel)
        with store.growing(wheel) as stream:
            if store.find(wheel) is not None:  # somebody else fetched it while this one waited
                return
            for attempt in range(1, _TRIES + 1):
                try:
                    self._read_on(address, _size(stream), self._bounded(wheel, stream), lambda: stream.truncate(0))
                    stream.flush()
                    break
                except (httpx.TransportError, _Hiccup) as error:
                    stream.flush()
                    if attempt == _TRIES:
                        raise _unreachable(wheel.filename, address, error) from error
                    self._source.pause(0.2 * 4**attempt)
            store.take_in(wheel)

    def _bounded(self, wheel: LockedWheel, stream: BinaryIO) -> Callable[[bytes], object]:
        """Writes, and stops what would fill the disk: nothing longer than the wheel can have its hash."""
        limit = wheel.size_bytes or self._source.max_bytes
        room = limit - _size(stream)

        def write(piece: bytes) -> None:
            nonlocal room
            room -= len(piece)
            if room < 0:
                stream.truncate(0)
                raise IntegrityError(
                    f"{wheel.filename} is not what the lock says",
                    code="wheel-size",
                    measure=f"over {limit} bytes",
                    limit=f"{limit} bytes",
                    hint="nothing of it was kept; where it comes from is damaged",
                )
            stream.write(piece)

        return write

    def versions(self, project: str) -> list[tuple[str, bool]]:
        """The files that the index has of a project: (filename, whether it was yanked)."""
        return [(entry.filename, entry.yanked) for entry in self._entries(project)]

    def _address(self, wheel: LockedWheel) -> str:
        if not self._source.index_url:
            if not wheel.url:
                raise NotFoundError(
                    f"the lock says no address for {wheel.filename}",
                    code="wheel-address",
                    hint="bring it with `insitu env import`, or name an index that has it",
                )
            return wheel.url
        project = wheel.filename.split("-")[0]
        for entry in self._entries(project):
            if entry.filename == wheel.filename:
                return entry.url
        raise NotFoundError(
            f"the index has no {wheel.filename}",
            code="wheel-not-at-index",
            hint="put it into the index, or bring it with `insitu env import`",
        )

    def _entries(self, project: str) -> list[_Entry]:
        url = f"{(self._source.index_url or 'https://pypi.org/simple').rstrip('/')}/{normalised(project)}/"
        page = bytearray()

        def add(piece: bytes) -> None:
            page.extend(piece)
            if len(page) > _MAX_PAGE_BYTES:
                raise UnreachableError(f"the index's page of {project} is too large", code="index-page")

        try:
            kind, base = self._read_on(url, 0, add, page.clear, accept=_SIMPLE)
        except (httpx.TransportError, _Hiccup) as error:
            raise _unreachable(project, url, error) from error
        text = page.decode(errors="replace")
        return list(_from_json(text, base) if "json" in kind else _from_html(text, base))

    def _read_on(
        self,
        url: str,
        offset: int,
        write: Callable[[bytes], object],
        restart: Callable[[], object],
        *,
        accept: str = "*/*",
    ) -> tuple[str, str]:
        """Read an answer from `offset` on; its content type, and the address it came from after redirects."""
        headers = {"Accept": accept} | ({"Range": f"bytes={offset}-"} if offset else {})
        for _ in range(_MOST_REDIRECTS):
            self._check_may_ask(url)
            with self._http.stream("GET", url, headers=headers) as response:
                if response.is_redirect:
                    url = urljoin(url, response.headers["location"])
                    continue
                if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                    return "", url  # it is all here already; its hash will tell
                if response.status_code in (408, 429) or response.is_server_error:
                    raise _Hiccup(f"it answered {response.status_code}")
                if response.is_error:
                    raise _refused(url, response.status_code)
                if offset and response.status_code != httpx.codes.PARTIAL_CONTENT:
                    restart()
                for piece in response.iter_raw():  # as it comes: what has come before a break is kept
                    write(piece)
                return response.headers.get("content-type", ""), url
        raise UnreachableError("the index redirects without end", code="index-unreachable")

    def _check_may_ask(self, url: str) -> None:
        parts = urlsplit(url)
        host, index = (parts.hostname or "").lower(), urlsplit(self._source.index_url)
        if parts.scheme not in ("http", "https"):
            raise _not_this_host(f"an address that begins with {parts.scheme[:20]!r}", "http and https")
        if self._source.hosts is None or host in self._source.hosts or (host and host == index.hostname):
            return
        raise _not_this_host(host[:100], ", ".join(sorted(self._source.hosts)))


def _size(stream: BinaryIO) -> int:
    return os.fstat(stream.fileno()).st_size


class _Hiccup(Exception):
    pass


@dataclass(frozen=True)
class _Entry:
    filename: str
    url: str
    yanked: bool = False


def _from_json(text: str, base: str) -> Iterator[_Entry]:
    try:
        document: Any = json.loads(text)
        files = cast("list[dict[str, Any]]", document["files"])
        for file in files:
            yield _Entry(str(file["filename"]), urljoin(base, str(file["url"])), bool(file.get("yanked")))
    except (ValueError, KeyError, TypeError) as error:
        raise UnreachableError("the index's answer can't be read", code="index-page") from error


def _from_html(text: str, base: str) -> Iterator[_Entry]:
    links: list[_Entry] = []

    class Anchors(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            given = dict(attrs)
            if tag == "a" and given.get("href"):
                url = urldefrag(urljoin(base, str(given["href"]))).url
                name = unquote(urlsplit(url).path).rpartition("/")[2]
                links.append(_Entry(name, url, "data-yanked" in given))

    Anchors().feed(text)
    yield from links


def _unreachable(what: str, url: str, error: Exception) -> UnreachableError:
    host = urlsplit(url).hostname or ""
    return UnreachableError(
        f"{what} could not be fetched from {host}",
        code="index-unreachable",
        why=str(error) or type(error).__name__,
        hint="check network and proxy; without internet, bring packages with `insitu env import`",
    )


def _refused(url: str, status: int) -> InsituError:
    host, name = urlsplit(url).hostname or "", urlsplit(url).path.rstrip("/").rpartition("/")[2]
    return NotFoundError(
        f"{host} has no {name[:120]}",
        code="wheel-not-at-index",
        why=f"it answered {status}",
        hint="bring it with `insitu env import`, or name an index that has it",
    )


def _not_this_host(measure: str, limit: str) -> DeniedError:
    return DeniedError(
        "the lock names a place that this hub does not fetch packages from",
        code="package-host",
        rule="package-hosts",
        measure=measure,
        limit=limit,
        hint="start the hub with `--package-host` naming it, or with `--index-url`; or bring it with "
        "`insitu env import`",
    )
