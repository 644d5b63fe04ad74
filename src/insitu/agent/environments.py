"""Environments at a site: a lock by digest becomes a tree of packages, once, from a cache.

    <cache>/locks/<digest>.toml   locks, as they were signed
    <cache>/wheels                wheels by their hash; from the hub, or brought on a stick (`insitu env import`)
    <cache>/uv                    what uv has unpacked, and what was compiled
    <cache>/environments/<key>    trees, made of hard links
    <cache>/environments/<key>.texts-<version>   what their packages may print

Wheels are taken by the hash in the signed lock alone, whatever the hub serves, and
uv sees no index. Where `agent.yaml` names an index, that is asked instead of the
hub. A lock that was seen before costs a lookup.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from insitu.agent.installed_texts import known_texts, texts_of
from insitu.agent.wheels import WheelsOfHub
from insitu.domain.digests import Digest, digest_of_file
from insitu.domain.errors import IntegrityError, InvalidInputError, NotFoundError
from insitu.domain.images import LockedWheel
from insitu.images.base import UnpackedBase
from insitu.images.environment import Environment, find_environment, materialise, parse_lock
from insitu.images.locks import IndexSettings
from insitu.images.wheel_choice import chosen_wheels
from insitu.images.wheel_store import WheelStore

_log = logging.getLogger("insitu.agent")


def wheels_in(cache: Path) -> WheelStore:
    """The wheels of a site's cache."""
    return WheelStore(cache / "wheels")


def lock_in(cache: Path, lock: Digest) -> Path:
    return cache / "locks" / f"{lock.removeprefix('sha256:')}.toml"


class Environments:
    """The site's environments, keyed by lock, base and platform. Safe for threads."""

    def __init__(
        self,
        cache: Path,
        base: UnpackedBase,
        *,
        wheels: WheelsOfHub | None = None,
        index_url: str | None = None,
        offline: bool = False,
    ) -> None:
        self._cache, self._base = cache, base
        self._wheels = wheels
        self._index_url, self._offline = index_url, offline
        self._ready: dict[Digest, Environment] = {}
        self._making, self._reading = threading.Lock(), threading.Lock()

    def ready(self, lock: Digest, fetch: Callable[[Digest, Path], None]) -> Path:
        """The tree to mount at /opt/env for `lock`.

        Args:
            lock: digest of the lock, as it was signed.
            fetch: gets the lock's bytes from the hub into a file, checked by digest.

        Raises:
            InvalidInputError: the lock holds a source distribution or a package without a hash, or a package has no
                wheel for this place.
            NotFoundError: a wheel is neither here nor at the hub.
            UnreachableError: the hub, or the index that the settings name, doesn't answer.
        """
        return self.made(lock, fetch).tree

    def made(self, lock: Digest, fetch: Callable[[Digest, Path], None]) -> Environment:
        """As `ready`, with what an image says of its environment."""
        known = self._ready.get(lock) or self._find(lock)
        if known is None:
            with self._making:
                # Looked for once more: another job may have had it made while this one waited.
                known = self._find(lock) or self._make(lock, self._lock_file(lock, fetch).read_bytes())
        self._ready[lock] = known
        return known

    def texts(self, tree: Path) -> Path | None:
        """What the packages of a tree may print (`gate/channels/installed_texts.py`); None if nobody could find out."""
        known = known_texts(tree)  # asked first: whoever has them need not wait for another environment's
        if known.exists():
            return known
        with self._reading:
            return texts_of(tree)

    def packages(self, lock: Digest) -> tuple[tuple[str, str], ...]:
        """(name, version) of a lock that is here already.

        Raises:
            NotFoundError: it isn't.
        """
        path = lock_in(self._cache, lock)
        if not path.exists():
            raise NotFoundError("the job's lock is not at this site", code="no-lock")
        return tuple((package.name, package.version) for package in parse_lock(path.read_bytes()).packages)

    def _find(self, lock: Digest) -> Environment | None:
        if not lock_in(self._cache, lock).exists():  # which `packages` reads
            return None
        return find_environment(
            lock,
            self._cache / "environments",
            python_version=self._base.python,
            platform=self._base.platform,
            base_digest=self._base.digest,
        )

    def _make(self, lock: Digest, raw: bytes) -> Environment:
        if self._index_url is not None:
            return self._materialise(lock, raw, IndexSettings(index_url=self._index_url), offline=self._offline)
        store = wheels_in(self._cache)
        place = {"python": self._base.python, "platform": self._base.platform}
        chosen = [wheel for _, wheel in chosen_wheels(parse_lock(raw), **place)]
        self._have(lock, chosen, store)
        try:
            return self._materialise(lock, raw, store.index(chosen), offline=True)
        except InvalidInputError:
            # uv compares hashes once more, when it unpacks: a disk or a power cut may have spoilt a wheel meanwhile.
            spoilt = store.drop_damaged(chosen)
            if not spoilt:
                raise
            _log.warning("fetching again what was damaged on disk: %s", ", ".join(one.filename for one in spoilt))
        self._have(lock, chosen, store)
        return self._materialise(lock, raw, store.index(chosen), offline=True)

    def _have(self, lock: Digest, chosen: Sequence[LockedWheel], store: WheelStore) -> None:
        """Every wheel in the store, from the hub where it isn't."""
        lacking = store.lacking(chosen)
        if lacking and (self._offline or self._wheels is None):
            raise NotFoundError(
                f"{lacking[0].filename} is not at this site",
                code="wheel-not-here",
                measure=f"{len(lacking)} of {len(chosen)} packages are lacking",
                hint="the site's settings say offline: bring a bundle with `insitu env import`",
            )
        if lacking and self._wheels is not None:
            self._wheels.have(lock, chosen, self._said(lock))

    def _materialise(self, lock: Digest, raw: bytes, index: IndexSettings, *, offline: bool) -> Environment:
        return materialise(
            raw,
            self._cache / "environments",
            python_version=self._base.python,
            platform=self._base.platform,
            cache_dir=self._cache / "uv",
            base_rootfs=self._base.rootfs,
            base_digest=self._base.digest,
            offline=offline,
            index=index,
            progress=self._said(lock),
        )

    def _said(self, lock: Digest) -> Callable[[str], object]:
        return lambda line: _log.info("environment %s: %s", lock[:19], line)

    def _lock_file(self, lock: Digest, fetch: Callable[[Digest, Path], None]) -> Path:
        path = lock_in(self._cache, lock)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fetch(lock, path)
        if digest_of_file(path) != lock:
            path.unlink()
            raise IntegrityError("a cached lock was damaged; it is fetched again next time", code="lock-damaged")
        return path
