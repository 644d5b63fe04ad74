"""The hub's wheels: fetched once from an index, or brought in a bundle, and kept for all sites.

Fetching runs in a few threads of its own, one for each wheel, so that an index that
is slow holds up no request. A failure is told to whoever asks for the wheel until it
is `_AGAIN_AFTER_S` old; then the next question is another try.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

from insitu.domain.digests import Digest
from insitu.domain.errors import InsituError
from insitu.domain.images import LockedWheel
from insitu.hub.blobs import Blobs
from insitu.images.locks import parse_lock
from insitu.images.wheel_download import WheelDownload, WheelSource
from insitu.images.wheel_store import WheelStore

_log = logging.getLogger("insitu.hub")

_AT_ONCE = 6
_AGAIN_AFTER_S = 15.0


@dataclass(frozen=True)
class Standing:
    """How it stands with wheels that somebody wants."""

    here: tuple[LockedWheel, ...]
    coming: tuple[LockedWheel, ...]
    failed: tuple[tuple[LockedWheel, InsituError], ...]


class Wheels:
    """One hub's wheels. Safe for threads; `store` may be shared by hub processes."""

    def __init__(
        self, store: WheelStore, source: WheelSource, blobs: Blobs, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.store = store
        self._download = WheelDownload(source)
        self._now = now
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="wheels")
        self._lock = threading.Lock()
        self._fetching: dict[str, Future[None]] = {}
        self._failed: dict[str, tuple[float, InsituError]] = {}
        self._named_by = lru_cache(maxsize=64)(lambda lock: _wheels_of(blobs, lock))

    def named_by(self, lock: Digest) -> Mapping[str, LockedWheel]:
        """The wheels that a lock of a job here names, by hash.

        Raises:
            InvalidInputError: it is no lock.
        """
        return self._named_by(lock)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._download.close()

    def ask(self, wheels: Iterable[LockedWheel]) -> Standing:
        """How it stands; what is neither here nor failed a moment ago begins to be fetched."""
        here: list[LockedWheel] = []
        coming: list[LockedWheel] = []
        failed: list[tuple[LockedWheel, InsituError]] = []
        for wheel in wheels:
            if self.store.find(wheel) is not None:
                here.append(wheel)
            elif (error := self._begin(wheel)) is not None:
                failed.append((wheel, error))
            else:
                coming.append(wheel)
        return Standing(tuple(here), tuple(coming), tuple(failed))

    def have(self, wheels: Iterable[LockedWheel]) -> None:
        """Fetch what is lacking and wait for it.

        Raises:
            InsituError: one of them can't be had; it says why.
        """
        for wheel in self.store.lacking(wheels):
            self._download.fetch(wheel, self.store)

    def _begin(self, wheel: LockedWheel) -> InsituError | None:
        with self._lock:
            told = self._failed.get(wheel.sha256)
            if told is not None and self._now() - told[0] < _AGAIN_AFTER_S:
                return told[1]
            self._failed.pop(wheel.sha256, None)
            if wheel.sha256 not in self._fetching:
                self._fetching[wheel.sha256] = self._pool.submit(self._fetch, wheel)
            return None

    def _fetch(self, wheel: LockedWheel) -> None:
        error: InsituError | None = None
        try:
            self._download.fetch(wheel, self.store)
            _log.info("fetched %s", wheel.filename)
        except InsituError as exc:
            error = exc
        except Exception as exc:  # noqa: BLE001 - a thread of ours: whoever asks for the wheel has to hear
            _log.exception("%s could not be fetched", wheel.filename)
            error = InsituError(f"{wheel.filename} could not be fetched", code="wheel-fetch", why=type(exc).__name__)
        with self._lock:
            if error is not None:
                _log.warning("%s: %s", wheel.filename, error.what)
                self._failed[wheel.sha256] = (self._now(), error)
            self._fetching.pop(wheel.sha256, None)


def _wheels_of(blobs: Blobs, lock: Digest) -> Mapping[str, LockedWheel]:
    packages = parse_lock(blobs.path(lock).read_bytes()).packages
    return {wheel.sha256: wheel for package in packages for wheel in package.wheels}
