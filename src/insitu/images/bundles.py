"""Bundles: locks and their wheels as one file, for a hub or a site that no network reaches.

    insitu-bundle.json               what is in it, sorted
    locks/<digest>.toml              locks, by the digest of their bytes
    wheels/<sha256>/<filename>       wheels, by their hash

A plain tar. The same locks and wheels give the same bytes, so two people who packed
one can compare digests. Whoever reads one believes nothing in it but what has the
hash that its name says; a bundle can only bring what some signed lock names already,
so it needs no signature of its own.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from insitu.domain.digests import Digest, digest_of, parse_digest
from insitu.domain.errors import InvalidInputError, UnavailableError
from insitu.domain.images import LockedWheel
from insitu.images.locks import is_wheel_filename, parse_lock
from insitu.images.wheel_store import WheelStore

_FORMAT = "insitu.bundle/1"
_CONTENTS = "insitu-bundle.json"
_LOCK = re.compile(r"locks/([0-9a-f]{64})\.toml")
_WHEEL = re.compile(r"wheels/([0-9a-f]{64})/([^/]+)")
_MAX_LOCK_BYTES = 8 << 20
_MAX_CONTENTS_BYTES = 16 << 20
_MAX_MEMBERS = 100_000


@dataclass(frozen=True)
class BundledLock:
    raw: bytes
    python: str = ""  # the place that its wheels are for; empty: any that the lock has wheels for
    platform: str = ""

    @property
    def digest(self) -> Digest:
        return digest_of(self.raw)


def write_bundle(out: Path, locks: Iterable[BundledLock], wheels: Iterable[LockedWheel], store: WheelStore) -> int:
    """Write a bundle whose wheels are all in `store`; its size in bytes. What is at `out` is whole, or what was there.

    Raises:
        UnavailableError: it can't be written.
    """
    by_digest = {lock.digest: lock for lock in locks}
    by_hash = {wheel.sha256: wheel for wheel in wheels}
    work = out.with_name(f".{out.name}.making")
    try:
        with work.open("wb") as stream:
            with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
                _write(tar, by_digest, by_hash, store)
            stream.flush()
        work.replace(out)
        return out.stat().st_size
    except OSError as exc:
        raise UnavailableError(f"{out} can't be written", code="bundle-write", why=exc.strerror or "") from exc
    finally:
        work.unlink(missing_ok=True)


def _write(
    tar: tarfile.TarFile, locks: Mapping[Digest, BundledLock], wheels: Mapping[str, LockedWheel], store: WheelStore
) -> None:
    files = {sha256: cast("Path", store.find(wheel)) for sha256, wheel in wheels.items()}
    contents = {
        "format": _FORMAT,
        "locks": [
            {"digest": digest, "python": lock.python, "platform": lock.platform}
            for digest, lock in sorted(locks.items())
        ],
        "wheels": [
            {"filename": wheels[sha256].filename, "sha256": sha256, "size_bytes": files[sha256].stat().st_size}
            for sha256 in sorted(wheels)
        ],
    }
    _add(tar, _CONTENTS, (json.dumps(contents, indent=1, sort_keys=True) + "\n").encode())
    for digest in sorted(locks):
        _add(tar, f"locks/{digest.removeprefix('sha256:')}.toml", locks[digest].raw)
    for sha256 in sorted(wheels):
        with files[sha256].open("rb") as stream:
            tar.addfile(_member(f"wheels/{sha256}/{wheels[sha256].filename}", files[sha256].stat().st_size), stream)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    tar.addfile(_member(name, len(content)), io.BytesIO(content))


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)  # nobody's, made at the beginning of time: the same bytes wherever it is made
    member.size, member.mode = size, 0o644
    return member


@dataclass(frozen=True)
class Bundle:
    """A bundle that is being read."""

    tar: tarfile.TarFile
    contents: Mapping[str, Any]

    def parts(self) -> Iterator[tuple[Digest, bytes] | tuple[LockedWheel, BinaryIO]]:
        """Locks, checked, and wheels, which whoever takes them checks: one after the other, each once.

        Raises:
            InvalidInputError: something in it has no business in a bundle, or a lock is not what its name says.
        """
        for number, member in enumerate(self.tar):
            if number == 0:  # the list, which was read already
                continue
            lock, wheel = _LOCK.fullmatch(member.name), _WHEEL.fullmatch(member.name)
            if not member.isreg() or number > _MAX_MEMBERS or not (lock or wheel):
                raise _no_bundle(f"it has {member.name[:100]!r} in it")
            stream = cast("IO[bytes]", self.tar.extractfile(member))
            if lock:
                yield _lock(lock[1], stream.read(_MAX_LOCK_BYTES + 1))
            elif wheel and is_wheel_filename(wheel[2]):
                yield LockedWheel(wheel[2], wheel[1], size_bytes=member.size), cast("BinaryIO", stream)
            else:
                raise _no_bundle(f"{member.name[:100]!r} is not a wheel")

    @property
    def wheels(self) -> list[LockedWheel]:
        """What its list says that it holds."""
        return [
            LockedWheel(str(one["filename"]), str(one["sha256"]), size_bytes=int(one["size_bytes"]))
            for one in self.contents["wheels"]
        ]


@contextmanager
def open_bundle(path: Path) -> Iterator[Bundle]:
    """Read a bundle from its first byte to its last; what it says it holds is read at once.

    Raises:
        InvalidInputError: it is no bundle, or was cut off.
        UnavailableError: it can't be read.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            yield Bundle(tar, _contents(tar))
    except tarfile.TarError as exc:
        raise _no_bundle(str(exc)) from exc
    except OSError as exc:
        if exc.filename is None:  # not of this file, but of what was done with it
            raise
        raise UnavailableError(f"{path} can't be read", code="bundle-read", why=exc.strerror or "") from exc


def _contents(tar: tarfile.TarFile) -> Mapping[str, Any]:
    first = tar.next()
    if first is None or first.name != _CONTENTS or not first.isreg() or first.size > _MAX_CONTENTS_BYTES:
        raise _no_bundle("it does not begin with the list of what it holds")
    try:
        document = json.loads(cast("IO[bytes]", tar.extractfile(first)).read())
        if document["format"] != _FORMAT:
            raise _no_bundle(f"its format is {str(document['format'])[:40]!r}, not {_FORMAT}")
        return {"locks": list(document["locks"]), "wheels": list(document["wheels"])}
    except (ValueError, KeyError, TypeError) as exc:
        raise _no_bundle("the list of what it holds can't be read") from exc


def _lock(name: str, raw: bytes) -> tuple[Digest, bytes]:
    digest = parse_digest(f"sha256:{name}")
    if digest_of(raw) != digest:
        raise InvalidInputError(
            "a lock in the bundle is not what its name says",
            code="bundle-damaged",
            measure=digest_of(raw),
            limit=digest,
            hint="copy the bundle again, or pack it again with `insitu env export`",
        )
    parse_lock(raw)
    return digest, raw


@dataclass(frozen=True)
class Taken:
    """What became of a bundle."""

    locks: tuple[Digest, ...]
    new: tuple[LockedWheel, ...]
    known: tuple[LockedWheel, ...]


def take_bundle(
    path: Path,
    store: WheelStore,
    *,
    keep_lock: Callable[[Digest, bytes], object] = lambda _digest, _raw: None,
    progress: Callable[[str], object] = lambda _: None,
) -> Taken:
    """Take a bundle's wheels into a store, each checked against its hash.

    Raises:
        IntegrityError: a wheel is damaged. Those before it are kept: each stands for itself.
        InvalidInputError: it is no bundle, or less is in it than its list says.
    """
    locks: list[Digest] = []
    new: list[LockedWheel] = []
    known: list[LockedWheel] = []
    with open_bundle(path) as bundle:
        promised = {wheel.sha256 for wheel in bundle.wheels}
        for what, content in bundle.parts():
            if isinstance(what, LockedWheel):
                progress(what.filename)
                here = store.find(what) is not None
                (known if here else new).append(what)
                if not here:
                    store.put(what, cast("BinaryIO", content))
            else:
                keep_lock(what, cast("bytes", content))
                locks.append(what)
    missing = promised - {wheel.sha256 for wheel in (*new, *known)}
    if missing:
        raise _no_bundle(f"{len(missing)} of the wheels in its list are not in it")
    return Taken(tuple(locks), tuple(new), tuple(known))


def _no_bundle(why: str) -> InvalidInputError:
    return InvalidInputError(
        "this is not a whole bundle",
        code="bundle-damaged",
        why=why,
        hint="copy it again, or pack it again with `insitu env export`",
    )
