"""Packages on their way to places without internet: packed where there is one, brought to a hub where there isn't."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote

from insitu.domain.digests import Digest
from insitu.domain.errors import IntegrityError, InvalidInputError
from insitu.domain.images import LockedWheel
from insitu.images.bundles import BundledLock, open_bundle, write_bundle
from insitu.images.locks import parse_lock
from insitu.images.wheel_choice import chosen_wheels
from insitu.images.wheel_download import WheelDownload, WheelSource
from insitu.images.wheel_store import WheelStore
from insitu.sdk.environment_files import Locker
from insitu.sdk.places import Place
from insitu.sdk.transport import Transport
from insitu.wire.job_file import JobFile
from insitu.wire.wheels import StoredWheel, WheelHashes

_AT_ONCE = 6
_PIECE = 1 << 20  # bytes
_UPLOAD_S = 600.0

Progress = Callable[[str], None]


@dataclass(frozen=True)
class PackedBundle:
    file: Path
    size_bytes: int
    locks: tuple[BundledLock, ...]
    wheels: tuple[LockedWheel, ...]


@dataclass(frozen=True)
class BroughtWheels:
    """What became of a bundle at a hub."""

    new: tuple[str, ...]  # filenames
    known: tuple[str, ...]


def locks_of_job(job: JobFile, folder: Path, places: Sequence[Place], locker: Locker) -> list[BundledLock]:
    """The locks that a job would be submitted with, for these kinds of place."""
    return [BundledLock(locker.lock(job.environment, folder, place), place.python, place.platform) for place in places]


def locks_of_file(path: Path, places: Sequence[Place]) -> list[BundledLock]:
    """A pylock.toml, for these kinds of place; for all that it has wheels for, when none is named."""
    try:
        raw = path.read_bytes()
    except OSError as exc:
        raise InvalidInputError(f"{path} can't be read", code="lock-file", why=exc.strerror or "") from exc
    parse_lock(raw)
    return [BundledLock(raw, place.python, place.platform) for place in places] or [BundledLock(raw)]


def pack_bundle(
    locks: Sequence[BundledLock], out: Path, *, cache: Path, index_url: str | None = None, progress: Progress
) -> PackedBundle:
    """Write a bundle of locks and of the wheels that their places use, fetching those that are not here yet.

    Raises:
        InvalidInputError: a lock has a package without a wheel for a place.
        UnreachableError, NotFoundError: a wheel can't be had.
    """
    store = WheelStore(cache / "wheels")
    wheels = {wheel.sha256: wheel for lock in locks for wheel in _wheels(lock)}
    lacking = store.lacking(wheels.values())
    # One's own lock, on one's own machine: its addresses may be anything.
    download = WheelDownload(WheelSource(index_url=index_url or "", hosts=None))

    def fetch(wheel: LockedWheel) -> None:
        progress(f"fetching {wheel.filename}")
        download.fetch(wheel, store)

    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(fetch, lacking))
    finally:
        download.close()
    if spoilt := store.drop_damaged(wheels.values()):
        raise IntegrityError(
            f"{spoilt[0].filename} was damaged on this disk, and is removed",
            code="wheel-hash",
            hint="run the same command again: it is fetched anew",
        )
    progress(f"writing {out.name}")
    size = write_bundle(out, locks, wheels.values(), store)
    return PackedBundle(out, size, tuple(locks), tuple(wheels.values()))


def bring_bundle(http: Transport, path: Path, progress: Progress) -> BroughtWheels:
    new: list[str] = []
    known: list[str] = []
    with open_bundle(path) as bundle:
        hashes = WheelHashes(sha256s=[wheel.sha256 for wheel in bundle.wheels])
        answer = http.call("POST", "/api/v1/wheels/lacking", json=hashes.model_dump())
        lacking = set(WheelHashes.model_validate(answer).sha256s)
        for what, content in bundle.parts():
            if not isinstance(what, LockedWheel):
                continue
            if what.sha256 not in lacking:
                known.append(what.filename)
                continue
            progress(f"sending {what.filename}")
            place = f"/api/v1/wheels/{quote(what.sha256)}/{quote(what.filename)}"
            sent = http.call("PUT", place, content=_pieces(cast("BinaryIO", content)), timeout=_UPLOAD_S)
            new.append(StoredWheel.model_validate(sent).filename)
    return BroughtWheels(tuple(new), tuple(known))


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    while piece := stream.read(_PIECE):
        yield piece


def _wheels(lock: BundledLock) -> list[LockedWheel]:
    parsed = parse_lock(lock.raw)
    if not lock.platform:
        return [wheel for package in parsed.packages for wheel in package.wheels]
    return [wheel for _, wheel in chosen_wheels(parsed, python=lock.python, platform=lock.platform)]


def digests(locks: Sequence[BundledLock]) -> list[Digest]:
    return list(dict.fromkeys(lock.digest for lock in locks))
