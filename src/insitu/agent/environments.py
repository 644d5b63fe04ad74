"""Environments at a site: a lock by digest becomes a tree of packages, once, from a cache.

Wheels are taken by the hash in the signed lock alone, whatever the index serves.
A lock that was seen before costs a lookup.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from insitu.domain.digests import Digest, digest_of_file
from insitu.domain.errors import IntegrityError, NotFoundError
from insitu.images.base import UnpackedBase
from insitu.images.environment import Environment, materialise, parse_lock

_log = logging.getLogger("insitu.agent")


class Environments:
    """The site's environments, keyed by lock, base and platform. Safe for threads."""

    def __init__(self, cache: Path, base: UnpackedBase, *, index_url: str | None = None, offline: bool = False) -> None:
        self._cache, self._base = cache, base
        self._index_url, self._offline = index_url, offline
        self._ready: dict[Digest, Environment] = {}
        self._making = threading.Lock()

    def ready(self, lock: Digest, fetch: Callable[[Digest, Path], None]) -> Path:
        """The tree to mount at /opt/env for `lock`.

        Args:
            lock: digest of the lock, as it was signed.
            fetch: gets the lock's bytes from the hub into a file, checked by digest.

        Raises:
            InvalidInputError: the lock holds a source distribution or a package without a hash.
            UnreachableError: a wheel is neither in the cache nor at the index.
        """
        return self.made(lock, fetch).tree

    def made(self, lock: Digest, fetch: Callable[[Digest, Path], None]) -> Environment:
        """As `ready`, with what an image says of its environment."""
        known = self._ready.get(lock)
        if known is not None:
            return known
        with self._making:
            made = materialise(
                self._lock_file(lock, fetch).read_bytes(),
                self._cache / "environments",
                python_version=self._base.python,
                platform=self._base.platform,
                cache_dir=self._cache / "uv",
                base_rootfs=self._base.rootfs,
                base_digest=self._base.digest,
                offline=self._offline,
                index_url=self._index_url,
                progress=lambda line: _log.info("environment %s: %s", lock[:19], line),
            )
            self._ready[lock] = made
            return made

    def packages(self, lock: Digest) -> tuple[tuple[str, str], ...]:
        """(name, version) of a lock that is here already.

        Raises:
            NotFoundError: it isn't.
        """
        path = self._path(lock)
        if not path.exists():
            raise NotFoundError("the job's lock is not at this site", code="no-lock")
        return tuple((package.name, package.version) for package in parse_lock(path.read_bytes()).packages)

    def _path(self, lock: Digest) -> Path:
        return self._cache / "locks" / f"{lock.removeprefix('sha256:')}.toml"

    def _lock_file(self, lock: Digest, fetch: Callable[[Digest, Path], None]) -> Path:
        path = self._path(lock)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fetch(lock, path)
        if digest_of_file(path) != lock:
            path.unlink()
            raise IntegrityError("a cached lock was damaged; it is fetched again next time", code="lock-damaged")
        return path
