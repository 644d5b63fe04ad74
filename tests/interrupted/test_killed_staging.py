"""An agent that is killed with SIGKILL in the middle of staging has lost nothing of what it had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from insitu.agent.staging.data_cache import DataCache
from insitu.agent.stores.folder import FolderStore
from tests.interrupted.stuck_staging import BLOCK_BYTES, KEY, MODULES, staged


class CountingStore(FolderStore):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read_bytes, self._lock = 0, threading.Lock()

    def read(self, name: str, start: int, length: int, *, etag: str = "") -> Any:
        with self._lock:
            self.read_bytes += length
        return super().read(name, start, length, etag=etag)

    def stream(self, name: str, *, start: int = 0, length: int | None = None, etag: str = "", reuse: Any = None) -> Any:
        end = start + (length or 0)
        for at in range(start, end, BLOCK_BYTES):
            yield self.read(name, at, min(BLOCK_BYTES, end - at), etag=etag)


@pytest.mark.parametrize(
    "files",
    [{"one": 80 * BLOCK_BYTES + 17}, {f"{at:03}": 40_000 for at in range(120)}],
    ids=["one large object", "many small ones"],
)
def test_staging_that_was_killed_goes_on_where_it_was(
    tmp_path: Path, files: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in MODULES:
        monkeypatch.setattr(module, "BLOCK_BYTES", BLOCK_BYTES)
    (tmp_path / "store").mkdir()
    (tmp_path / "cache").mkdir()
    for name, size in files.items():
        (tmp_path / "store" / name).write_bytes(os.urandom(size))
    size = sum(files.values())
    cache = DataCache(tmp_path / "cache", KEY)
    source = CountingStore(tmp_path / "store")
    with cache.take_in(sorted(source.list(), key=lambda one: one.name), source) as (manifest, digest, _):
        manifest.save(tmp_path / "manifest.json")
    (tmp_path / "version.json").write_text(json.dumps({"digest": digest, "size_bytes": size}))
    cache, version = staged(tmp_path / "cache")
    cache.drop(version)

    half = str(size // 2)
    command = [sys.executable, "-m", "tests.interrupted.stuck_staging", str(tmp_path / "store"), str(cache.root), half]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"hangs\n"
        process.kill()

    again, version = staged(tmp_path / "cache")
    again.forget_unfinished()
    assert not again.is_staged(version), "what is not whole is no version"
    source = CountingStore(tmp_path / "store")
    view = again.stage(version, lambda: source)
    assert {path.name: path.read_bytes() for path in view.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()
    }
    # Each of eight workers may have lost what it had in its hands.
    assert source.read_bytes <= size // 2 + 9 * BLOCK_BYTES
