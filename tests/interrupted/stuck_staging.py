"""Stages a version from a folder, and hangs when it has half of it: to be killed there."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

from insitu.agent.staging import coming, digests, fetch, manifest
from insitu.agent.staging.data_cache import DataCache, Staged
from insitu.agent.stores.folder import FolderStore

KEY = b"k" * 32
BLOCK_BYTES = 1 << 16
"""So that an object of many blocks need not be large."""
MODULES = (coming, digests, fetch, manifest)
"""That know how large a block is."""


class HangingStore(FolderStore):
    """Gives so many bytes, and then nothing more."""

    def __init__(self, root: Path, gives: int) -> None:
        super().__init__(root)
        self._left, self._lock = gives, threading.Lock()

    def read(self, name: str, start: int, length: int, *, etag: str = "") -> Any:
        with self._lock:
            self._left -= length
            hangs = self._left < 0
        if hangs:
            sys.stdout.write("hangs\n")
            sys.stdout.flush()
            threading.Event().wait()
        return super().read(name, start, length, etag=etag)

    def stream(self, name: str, *, start: int = 0, length: int | None = None, etag: str = "", reuse: Any = None) -> Any:
        end = start + (length or 0)
        for at in range(start, end, BLOCK_BYTES):
            yield self.read(name, at, min(BLOCK_BYTES, end - at), etag=etag)


def staged(cache: Path) -> tuple[DataCache, Staged]:
    """The cache in a folder, and the version whose manifest lies beside it."""
    facts = json.loads(cache.with_name("version.json").read_text())
    version = Staged("x@1", facts["digest"], cache.with_name("manifest.json"), facts["size_bytes"])
    return DataCache(cache, KEY), version


if __name__ == "__main__":
    for module in MODULES:
        setattr(module, "BLOCK_BYTES", BLOCK_BYTES)  # noqa: B010 - modules are all one type
    store, cache_folder, gives = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    found, wanted = staged(cache_folder)
    found.stage(wanted, lambda: HangingStore(store, gives))
