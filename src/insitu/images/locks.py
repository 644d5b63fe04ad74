"""Locks: which packages, exactly, as `pylock.toml` (PEP 751).

The client makes a lock with `uv` (`lock_requirements`) and signs its digest; a
site reads it (`parse_lock`) and accepts a file by its hash alone, wherever it
comes from. A lock is refused unless every package is a wheel with a sha256:
to install a source distribution, a repository or a folder means to run code
that nobody has named by digest.

Settings of an index may hold a password, so they go to uv in a file that only
this user can read, never as arguments.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import uv

from insitu.domain.digests import digest_of
from insitu.domain.errors import InvalidInputError, UnavailableError, UnreachableError
from insitu.domain.images import Lock, LockedPackage, LockedWheel

_MAX_LOCK_BYTES = 8 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_WHEEL_NAME = re.compile(r"[A-Za-z0-9_.+!]+(?:-[A-Za-z0-9_.+!]+){4,5}\.whl")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")

UV_PLATFORMS: Mapping[str, str] = {
    # glibc 2.28 (2018): what current wheels are built for, older than any base that we build.
    "x86_64-linux": "x86_64-manylinux_2_28",
    "aarch64-linux": "aarch64-manylinux_2_28",
}


@dataclass(frozen=True)
class IndexSettings:
    """Where packages come from, when it isn't where the machine's own uv settings say."""

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()  # folders or pages with wheels
    no_index: bool = False  # find_links alone


def find_uv() -> Path:
    """The uv that came with this installation.

    Raises:
        UnavailableError: its package has no program for this machine.
    """
    try:
        return Path(uv.find_uv_bin())
    except FileNotFoundError as error:
        raise UnavailableError("uv is not installed", why=str(error), hint="pip install uv") from error


def parse_lock(raw: bytes, *, only: Callable[[str, str], bool] = lambda _marker, _name: True) -> Lock:
    """Read a pylock.toml, and refuse what can't be installed by hash alone.

    Args:
        only: whether a package with this marker and name is looked at; the others may be anything.

    Raises:
        InvalidInputError: it isn't a lock, or a package in it has no wheel with a sha256.
    """
    if len(raw) > _MAX_LOCK_BYTES:
        raise InvalidInputError("the lock is too large", measure=f"{len(raw)} bytes", limit=f"{_MAX_LOCK_BYTES} bytes")
    try:
        document = tomllib.loads(raw.decode())
    except ValueError as error:
        raise InvalidInputError("the lock is not TOML", why=str(error), hint=_MAKE_ONE) from error
    version = document.get("lock-version")
    if version != "1.0":
        raise InvalidInputError(f"the lock has version {version!r}", limit="lock-version 1.0", hint=_MAKE_ONE)
    entries = document.get("packages", [])
    if not isinstance(entries, list):
        raise InvalidInputError("the lock's packages are not a list", hint=_MAKE_ONE)
    wanted = [entry for entry in cast("list[object]", entries) if only(*_marker_and_name(entry))]
    packages = tuple(_package(entry) for entry in wanted)
    return Lock(digest_of(raw), packages, str(document.get("requires-python", "")))


_MAKE_ONE = "make it with `uv pip compile requirements.txt --format pylock.toml --generate-hashes --only-binary :all:`"


def is_wheel_filename(name: str) -> bool:
    """Whether a file of this name is a wheel by its form: it names a file, and never a folder or another place."""
    return len(name) <= 255 and _WHEEL_NAME.fullmatch(name) is not None


def lock_requirements(
    text: str,
    *,
    python: str,
    platform: str,
    uv_path: Path | None = None,
    index: IndexSettings | None = None,
    folder: Path | None = None,
    offline: bool = False,
) -> bytes:
    """The bytes of a pylock.toml for requirements; a text that is a lock already is checked and returned.

    Args:
        text: contents of a requirements.txt or a pylock.toml.
        python: the base's Python, e.g. "3.11".
        platform: the base's platform, e.g. "x86_64-linux".
        uv_path: the uv to use; by default the one that this installation brought.
        index: where packages come from; by default what the user's own uv settings say.
        folder: what relative `-r` lines in the text are relative to.
        offline: only what uv has in its cache.

    Raises:
        InvalidInputError: a requirement can't be met with wheels for that Python and platform; `why` says which.
        UnreachableError: the index didn't answer.
    """
    if re.search(r"^lock-version\s*=", text, re.MULTILINE):
        raw = text.encode()
        parse_lock(raw)
        return raw
    with uv_settings(index) as settings:
        command = [str(uv_path or find_uv()), "pip", "compile", "-", *settings, "--format", "pylock.toml"]
        command += ["--generate-hashes", "--only-binary", ":all:", "--no-header", "--quiet", "--no-progress"]
        command += ["--python-version", python, "--python-platform", uv_platform(platform)]
        command += ["--offline"] if offline else []
        done = subprocess.run(command, input=text.encode(), capture_output=True, cwd=folder, check=False)
    if done.returncode != 0:
        raise uv_error("the requirements can't be locked", done.stderr)
    parse_lock(done.stdout)
    return done.stdout


def export_uv_lock(folder: Path) -> bytes:
    """A project's uv.lock as a pylock.toml: its dependencies, without itself and without what is for developing it.

    Raises:
        InvalidInputError: uv can't read it.
    """
    command = [str(find_uv()), "export", "--directory", str(folder), "--frozen", "--format", "pylock.toml"]
    command += ["--no-emit-project", "--no-dev", "--no-header", "--quiet", "--no-progress", "--no-python-downloads"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        raise uv_error("the project's uv.lock can't be read", done.stderr)
    return done.stdout


def uv_platform(platform: str) -> str:
    """uv's name of one of our platforms.

    Raises:
        InvalidInputError: we don't know it.
    """
    if platform not in UV_PLATFORMS:
        raise InvalidInputError(f"unknown platform {platform!r}", limit=", ".join(UV_PLATFORMS))
    return UV_PLATFORMS[platform]


@contextmanager
def uv_settings(index: IndexSettings | None) -> Iterator[list[str]]:
    """Arguments that make uv use `index`; none for `None`."""
    if index is None:
        yield []
        return
    lines = [f"no-index = {str(index.no_index).lower()}", f"find-links = {json.dumps(index.find_links)}"]
    lines += [f"index-url = {json.dumps(index.index_url)}"] if index.index_url else []
    lines += [f"extra-index-url = {json.dumps(index.extra_index_urls)}"]
    with tempfile.NamedTemporaryFile("w", prefix="insitu-uv-", suffix=".toml") as stream:  # mode 0600
        stream.write("\n".join(lines) + "\n")
        stream.flush()
        yield ["--config-file", stream.name]


def uv_error(what: str, stderr: bytes) -> InvalidInputError | UnreachableError:
    """uv's own words as an error of ours; it names the requirement or package itself."""
    text = _without_secrets(re.sub(r"\x1b\[[0-9;]*m", "", stderr.decode(errors="replace"))).strip()
    lines = [line.strip(" │├╰─▶×\t") for line in text.splitlines() if not line.startswith(("warning:", "hint:"))]
    why = " ".join(line for line in lines if line)[:2000]
    away = (
        "error sending request",
        "dns error",
        "connection refused",
        "timed out",
        "network was disabled",
        "request failed after",
    )
    if any(sign in why.lower() for sign in away):
        hint = "check the index's address and the network, or give a mirror that this machine reaches"
        return UnreachableError(what, code="index-unreachable", why=why, hint=hint)
    return InvalidInputError(what, code="environment", why=why, hint="only wheels are used; see which one is named")


def _marker_and_name(entry: object) -> tuple[str, str]:
    fields = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
    return str(fields.get("marker", "")), str(fields.get("name", ""))[:80]


def _package(entry: object) -> LockedPackage:
    if not isinstance(entry, dict):
        raise InvalidInputError("a package of the lock is not a table", hint=_MAKE_ONE)
    fields = cast("dict[str, Any]", entry)
    name, version = str(fields.get("name", "")), str(fields.get("version", ""))
    if not _NAME.fullmatch(name):
        raise InvalidInputError(f"the lock has a package with the name {name[:80]!r}", hint=_MAKE_ONE)
    wheels = [_wheel(name, wheel) for wheel in fields.get("wheels") or []]
    archive = fields.get("archive")
    if not wheels and isinstance(archive, dict):
        wheels = [_wheel(name, cast("dict[str, Any]", archive))]
    if not wheels:
        found = next((kind for kind in ("sdist", "vcs", "directory", "archive") if kind in fields), "nothing")
        raise InvalidInputError(
            f"{name} is locked without a wheel",
            code="environment",
            rule="wheels-only",
            why=f"the lock has {found} for it, and to install that means to run code without a digest",
            hint=f"choose a version of {name} that has wheels, or build one and give it by --find-links",
        )
    if not version:  # PEP 751 lets it out where it isn't fixed; a wheel's name always has it
        version = wheels[0].filename.split("-")[1]
    if not _VERSION.fullmatch(version):
        raise InvalidInputError(f"{name} is locked at {version[:80]!r}, which is not a version", hint=_MAKE_ONE)
    return LockedPackage(name, version, tuple(wheels), str(fields.get("marker", "")))


def _wheel(package: str, fields: dict[str, Any]) -> LockedWheel:
    url = str(fields.get("url", ""))
    place = str(fields.get("name") or fields.get("path") or unquote(urlsplit(url).path))
    filename = PurePosixPath(place).name
    if not is_wheel_filename(filename):
        raise InvalidInputError(
            f"{package} is locked to {filename[:120]!r}, which is not a wheel", code="environment", rule="wheels-only"
        )
    hashes = cast("dict[str, Any]", fields.get("hashes") or {})
    sha256 = str(hashes.get("sha256", ""))
    if not _SHA256.fullmatch(sha256):
        raise InvalidInputError(
            f"{package} is locked without a sha256",
            code="environment",
            rule="hashed-wheels",
            why=f"{filename} has {', '.join(hashes) or 'no hash'}",
            hint=_MAKE_ONE,
        )
    size = fields.get("size")
    return LockedWheel(filename, sha256, url, size if isinstance(size, int) else None)


def _without_secrets(text: str) -> str:
    return re.sub(r"(\w+://)[^/\s@]+@", r"\1***@", text)
