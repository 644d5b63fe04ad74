"""A package index on loopback, with wheels that are made here, that can be made to misbehave.

    with PackageIndex(folder) as index:
        wheel = index.add("one")
        index.breaks[wheel.name] = 1000     # the next answer with it breaks off after so many bytes

It speaks PEP 503, and answers ranges, as indexes do.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import zipfile
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self, cast

from insitu.domain.images import LockedWheel

SOURCE = "def main():\n    return 7\n"


def make_wheel(
    folder: Path,
    name: str,
    *,
    version: str = "1.0",
    tag: str = "py3-none-any",
    source: str = SOURCE,
    requires: Sequence[str] = (),
    padding: bytes = b"",
) -> Path:
    """A wheel of one module, whose `main` is also a console script; the same arguments give the same bytes."""
    info = f"{name}-{version}.dist-info"
    wanted = "".join(f"Requires-Dist: {one}\n" for one in requires)
    pure = str(tag.endswith("-any")).lower()
    files = {
        f"{name}/__init__.py": source.encode(),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{wanted}".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: {pure}\nTag: {tag}\n".encode(),
        f"{info}/entry_points.txt": f"[console_scripts]\n{name}-run = {name}:main\n".encode(),
    }
    if padding:
        files[f"{name}/padding.bin"] = padding
    record = "".join(f"{path},sha256={_checksum(data)},{len(data)}\n" for path, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    place = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(place, "w") as wheel:
        for path, data in files.items():
            wheel.writestr(zipfile.ZipInfo(path), data)
    return place


def locked(path: Path, url: str = "") -> LockedWheel:
    """A wheel as a lock names it."""
    content = path.read_bytes()
    return LockedWheel(path.name, hashlib.sha256(content).hexdigest(), url, len(content))


def a_lock(*wheels: Path | LockedWheel) -> bytes:
    """A pylock.toml that names these wheels, in this order."""
    lines = ['lock-version = "1.0"', 'created-by = "test"']
    for given in wheels:
        wheel = given if isinstance(given, LockedWheel) else locked(given, f"https://files.example/{given.name}")
        name, version = wheel.filename.split("-")[:2]
        where = f'url = "{wheel.url}"' if wheel.url else f'name = "{wheel.filename}"'
        lines += ["[[packages]]", f'name = "{name}"', f'version = "{version}"']
        lines += [f'wheels = [{{ {where}, size = {wheel.size_bytes}, hashes = {{ sha256 = "{wheel.sha256}" }} }}]']
    return ("\n".join(lines) + "\n").encode()


def _checksum(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


class PackageIndex(ThreadingHTTPServer):
    """`simple_url` is what one gives to a client; files lie in `folder`."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.breaks: dict[str, int] = {}  # file → bytes after which its next answer breaks off
        self.spoilt: set[str] = set()  # files of which other bytes are served
        self.asked: list[tuple[str, str]] = []  # (path, range)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def simple_url(self) -> str:
        return f"{self.url}/simple"

    def add(self, name: str, **fields: Any) -> Path:
        return make_wheel(self.folder, name, **fields)

    def locked(self, path: Path) -> LockedWheel:
        """As a lock names it that was made from this index."""
        return locked(path, f"{self.url}/files/{path.name}")

    def files_asked(self, name: str) -> list[str]:
        """The ranges with which a file was asked for, in order; empty: all of it."""
        return [ranges for path, ranges in self.asked if path == f"/files/{name}"]


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        name = self.path.removeprefix("/files/")
        place = cast("PackageIndex", self.server).folder / name
        self.send_response(200 if place.is_file() else 404)
        self.send_header("content-length", str(place.stat().st_size if place.is_file() else 0))
        self.send_header("accept-ranges", "bytes")
        self.end_headers()

    def do_GET(self) -> None:
        index = cast("PackageIndex", self.server)
        index.asked.append((self.path, self.headers.get("range", "")))
        kind, _, name = self.path.strip("/").partition("/")
        if kind == "simple":
            self._page(index, name)
        elif kind == "files" and (index.folder / name).is_file():
            self._file(index, name)
        else:
            self._answer(404, b"")

    def _page(self, index: PackageIndex, project: str) -> None:
        found = [
            path
            for path in sorted(index.folder.glob("*.whl"))
            if re.sub("[-_.]+", "-", path.name.split("-")[0]) == project
        ]
        if not found:
            return self._answer(404, b"")
        links = "".join(
            f'<a href="/files/{path.name}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}">{path.name}</a>'
            for path in found
        )
        return self._answer(200, f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), "text/html")

    def _file(self, index: PackageIndex, name: str) -> None:
        content = (index.folder / name).read_bytes()
        if name in index.spoilt:
            content = content[:-1] + bytes([content[-1] ^ 1])
        first, _, last = self.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")
        start = int(first) if first else max(0, len(content) - int(last))
        rest = content[start : int(last) + 1 if first and last else None]
        self.send_response(206 if "range" in self.headers else 200)
        self.send_header("content-length", str(len(rest)))
        if "range" in self.headers:
            self.send_header("content-range", f"bytes {start}-{start + len(rest) - 1}/{len(content)}")
        self.end_headers()
        limit = index.breaks.pop(name, None)
        self.wfile.write(rest[:limit])
        if limit is not None:
            self.close_connection = True

    def _answer(self, status: int, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass
