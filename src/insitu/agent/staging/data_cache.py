"""A site's copy of the data that its jobs use: staged once for each version, verified, shared, bounded.

    stage(version)   its view is there and whole when this returns; the second time at once, whatever its size
    evict            the versions that were not used for longest, never one that a job uses now

What is here can be had again from the datastore, so nothing but time is lost with it.
A view is believed as long as the machine runs; after a restart it is hashed once more,
since what was not yet on the disk when the power went may be missing.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from insitu.agent.staging.digests import DigestKeys
from insitu.agent.staging.fetch import Fetching
from insitu.agent.staging.manifest import Manifest, ManifestObject, load_manifest
from insitu.agent.staging.objects import Objects
from insitu.agent.staging.streamed import StreamedFile
from insitu.agent.staging.views import Views
from insitu.agent.stores.contract import ObjectChangedError, ObjectInfo, ObjectMissingError, ObjectStore
from insitu.domain.errors import IntegrityError, UnavailableError
from insitu.domain.quantities import format_bytes

_log = logging.getLogger("insitu.agent")

Stop = Callable[[], bool]
Progress = Callable[[int, int], None]
"""Called with (bytes that are here, bytes in all), by any thread, often."""


@dataclass(frozen=True)
class Staged:
    """A version as the cache knows it."""

    label: str
    """name@version, for people."""
    digest: str
    manifest: Path
    size_bytes: int

    @property
    def view(self) -> str:
        return self.digest.removeprefix("sha256:")


@dataclass
class DataCache:
    """One site's; one process has one. Safe for threads."""

    root: Path
    """Of its own: private bytes lie here, so it is never shared with another site."""
    key: bytes
    """The site's index key."""
    limit_bytes: int = 0
    """0: half of the disk."""
    reserve_bytes: int = 0
    """What stays free on the disk in any case."""
    in_use: Callable[[], set[str]] = set
    """Digests of the versions that jobs use now."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _turns: dict[str, threading.Lock] = field(default_factory=dict[str, threading.Lock])
    _coming: dict[str, tuple[int, frozenset[str]]] = field(default_factory=dict[str, tuple[int, frozenset[str]]])

    def __post_init__(self) -> None:
        self.objects = Objects(self.root)
        self.views = Views(self.objects)
        self.keys = DigestKeys.of(self.key)

    @property
    def limit(self) -> int:
        if self.limit_bytes:
            return self.limit_bytes
        disk = os.statvfs(self.root)
        return disk.f_blocks * disk.f_frsize // 2

    def path(self, version: Staged) -> Path:
        """What a job is given of it, once it is staged."""
        return self.views.path(version.view)

    def is_staged(self, version: Staged) -> bool:
        return self.views.marker(version.view) is not None

    def stage(
        self,
        version: Staged,
        open_store: Callable[[], ObjectStore],
        *,
        progress: Progress = lambda _done, _all: None,
        stop: Stop = lambda: False,
    ) -> Path:
        """Have a version here. Stopped anywhere, it goes on from there the next time.

        Args:
            open_store: where its bytes are; not called when nothing is missing.

        Raises:
            IntegrityError: the store or this disk holds other bytes than the version has; names the version.
            StoreError: the store could not be asked.
            UnavailableError: there is no room for it, or none on the disk.
            StoppedError: `stop` said so.
        """
        with self._turn(version.view):
            marker = self.views.marker(version.view)
            if marker is not None and self._still_good(version, marker):
                self.views.touch(version.view)
                return self.path(version)
            manifest = load_manifest(version.manifest)
            self._fetch(version, manifest, open_store, progress, stop)
            self.views.make(version.view, manifest, boot_id=_boot_id())
            return self.path(version)

    @contextmanager
    def take_in(
        self, found: Sequence[ObjectInfo], store: ObjectStore, *, progress: Progress = lambda _done, _all: None
    ) -> Iterator[tuple[Manifest, str, Sequence[Path | StreamedFile]]]:
        """Read what a new version is to consist of: its manifest, its digest, its files in the manifest's order.

        It is fetched, and kept when the block ends well. Where it doesn't fit into the cache or on the disk, nothing is
        kept, and the files are read from the store, once for the digests and again by whoever opens them.

        Raises:
            ObjectChangedError: an object was written again in the middle.
            StoreError: the store could not be asked.
            UnavailableError: the disk filled meanwhile.
        """
        size = sum(one.size_bytes for one in found)
        told = _Told(progress, size)
        with ExitStack() as stack:
            try:
                stack.enter_context(
                    self._room("the new version", f"new-{threading.get_ident()}", size, frozenset(), size)
                )
            except UnavailableError as exc:
                _log.info("%s (limit: %s): it is read where it is", exc.what, exc.limit or exc.rule)
                yield self._read_in_place(found, store, told)
                return
            learned = Fetching(store, self.objects, self.keys, progress=told.add).learn(found)
            manifest = Manifest(tuple(learned))
            digest = manifest.digest(self.key)
            view = digest.removeprefix("sha256:")
            with self._turn(view):
                known = self.views.marker(view) is not None
                if not known:
                    self.views.make(view, manifest, boot_id=_boot_id())
                try:
                    yield manifest, digest, [self.views.path(view) / one.name for one in manifest.objects]
                except BaseException:
                    if not known:
                        self.views.remove(view)
                    raise

    def _read_in_place(
        self, found: Sequence[ObjectInfo], store: ObjectStore, told: _Told
    ) -> tuple[Manifest, str, Sequence[StreamedFile]]:
        reading = Fetching(store, self.objects, self.keys, progress=told.add, keep=False)
        manifest = Manifest(tuple(reading.learn(found)))
        files = [StreamedFile(store, self.keys, one, self.objects.partial) for one in manifest.objects]
        return manifest, manifest.digest(self.key), files

    def drop(self, version: Staged) -> None:
        """Forget a version's bytes; those that others share stay."""
        with self._turn(version.view), self._lock:
            self.views.remove(version.view)
            self._sweep()

    def forget_unfinished(self) -> None:
        """At the start: views that were half made. What was fetched of them stays, and is used."""
        with self._lock:
            self.views.remove_unfinished()

    def sweep(self) -> None:
        """Remove what no version has."""
        with self._lock:
            self._sweep()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _still_good(self, version: Staged, marker: dict[str, Any]) -> bool:
        """Whether a view that is here may be used as it is. What is damaged is removed, to be fetched again."""
        boot_id = _boot_id()
        if marker["boot_id"] == boot_id and self.views.is_untouched(version.view, marker):
            return True
        if not self._verifies(load_manifest(version.manifest), self.views.path(version.view)):
            _log.warning("the copy of %s in the cache was changed or damaged; it is fetched again", version.label)
            self._remove_damaged(version)
            return False
        self.views.note_verified(version.view, marker, boot_id=boot_id)
        return True

    def _verifies(self, manifest: Manifest, view: Path) -> bool:
        with suppress(OSError):
            return all(self._is_one(one, view / one.name) for one in manifest.objects if one.size_bytes)
        return False

    def _is_one(self, one: ManifestObject, path: Path) -> bool:
        return self.keys.under(one.scheme).of_file(path) == one.digest

    def _remove_damaged(self, version: Staged) -> None:
        """Its damaged objects with it: other versions that share them hold the same bytes, and are hashed in their turn."""
        with self._lock:
            for one in load_manifest(version.manifest).objects:
                path = self.objects.path(one.digest)
                if one.size_bytes and path.exists() and not self._is_one(one, path):
                    path.unlink()
            self.views.remove(version.view)

    def _fetch(
        self,
        version: Staged,
        manifest: Manifest,
        open_store: Callable[[], ObjectStore],
        progress: Progress,
        stop: Stop,
    ) -> None:
        told = _Told(progress, version.size_bytes)
        digests = frozenset(one.digest for one in manifest.objects)
        missing = {one.digest: one.size_bytes for one in manifest.objects if not self._is_here(one)}
        store = open_store() if missing else None
        with self._room(version.label, version.view, sum(missing.values()), digests, version.size_bytes):
            try:
                # Without a store everything is here already, and no task asks for it.
                fetching = Fetching(store, self.objects, self.keys, told.add, stop, absent=missing.keys())  # type: ignore[arg-type]
                fetching.stage(manifest.objects)
            except (ObjectChangedError, ObjectMissingError) as exc:
                raise changed_version(version.label, exc.what) from exc
            finally:
                if store is not None:
                    store.close()

    def _is_here(self, one: ManifestObject) -> bool:
        return not one.size_bytes or bool(self.objects.links(one.digest, one.size_bytes))

    @contextmanager
    def _turn(self, view: str) -> Iterator[None]:
        """One at a time for each version: the second job waits for what the first one stages."""
        with self._lock:
            turn = self._turns.setdefault(view, threading.Lock())
        with turn:
            yield

    @contextmanager
    def _room(
        self, label: str, view: str, need: int, digests: frozenset[str], whole: int | None = None
    ) -> Iterator[None]:
        """Room for so many bytes more, taken from versions that nobody uses. A disk that fills is cleaned up."""
        with self._lock:
            self.objects.make()
            self._make_room(label, need, need if whole is None else whole, frozenset({*digests}))
            self._coming[view] = (need, digests)
        try:
            yield
        except OSError as exc:
            if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            with self._lock:
                del self._coming[view]
                self._sweep()
            raise _disk_full(label, need) from exc
        finally:
            with self._lock:
                self._coming.pop(view, None)

    def _make_room(self, label: str, need: int, whole: int, keep: frozenset[str]) -> None:
        limit, reserved = self.limit, sum(size for size, _ in self._coming.values())
        if whole > limit:
            raise UnavailableError(
                f"{label} is larger than the site's data cache",
                code="data-cache-small",
                rule="data_cache",
                measure=format_bytes(whole),
                limit=format_bytes(limit),
                hint="raise `data_cache` in agent.yaml, or read it with `mode: direct`",
            )
        taken = self.objects.size_bytes()
        if self._fits(taken + reserved + need, need + reserved, limit):
            return
        self._sweep(keep)
        in_use = {digest.removeprefix("sha256:") for digest in self.in_use()} | set(self._coming)
        for view in [*self.views.by_use(), ""]:
            taken = self.objects.size_bytes()
            if self._fits(taken + reserved + need, need + reserved, limit):
                return
            if view and view not in in_use:
                self.views.remove(view)
                self._sweep(keep)
        if taken + reserved + need > limit:
            raise UnavailableError(
                f"there is no room for {label} in the site's data cache beside what runs now",
                code="data-cache-full",
                rule="data_cache",
                measure=f"{format_bytes(need)} more",
                limit=f"{format_bytes(limit)}, of which running jobs use {format_bytes(taken + reserved)}",
                hint="submit it again when they have ended, or raise `data_cache` in agent.yaml",
            )
        raise _disk_full(label, need)

    def _fits(self, taken: int, coming: int, limit: int) -> bool:
        disk = os.statvfs(self.root)
        return taken <= limit and coming + self.reserve_bytes <= disk.f_bavail * disk.f_frsize

    def _sweep(self, keep: frozenset[str] = frozenset()) -> None:
        coming = frozenset[str]().union(*(digests for _, digests in self._coming.values()))
        if any(view.startswith("new-") for view in self._coming):
            return  # nobody knows yet which objects a new version has
        self.objects.sweep(keep | coming)


def changed_version(label: str, why: str) -> IntegrityError:
    """A version's bytes are not to be had any more. `why` may name an object, and is for the site alone."""
    return IntegrityError(
        f"dataset {label} is not what it was when it was added",
        code="dataset-changed",
        rule="dataset-version",
        why=why,
        hint="a version is immutable: add the changed files as a new version with `insitu data add`",
    )


def _disk_full(label: str, need: int) -> UnavailableError:
    return UnavailableError(
        f"the site's disk has no room for {label}",
        code="data-disk-full",
        rule="sandbox.free",
        measure=f"{format_bytes(need)} more",
        hint="the site's steward frees some disk; what was fetched for it was removed, and all else is as it was",
    )


@dataclass
class _Told:
    """Adds up what several workers report."""

    progress: Progress
    size_bytes: int
    done_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, more: int) -> None:
        with self._lock:
            self.done_bytes += more
            done = self.done_bytes
        self.progress(done, self.size_bytes)


def _boot_id() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""
