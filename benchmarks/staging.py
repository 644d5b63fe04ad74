"""Staging a version from a blob store: large objects, many small ones, a second job, verifying, and memory.

The store is Azurite on loopback: one processor's worth of it is the store's own work,
which both sides share. The reference does the least that could be done: obstore
gets the same objects, eight at a time, into memory, verifies nothing and writes
nothing. It is shown also with writing to files, and beside what people use, adlfs.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
from adlfs import AzureBlobFileSystem
from azure.storage.blob import BlobServiceClient

from benchmarks.figures import Goal, Row, in_turns, milliseconds, seconds
from benchmarks.programs import ended_by_pid
from benchmarks.scene import Scene
from insitu.agent.staging.data_cache import DataCache, Staged
from insitu.agent.staging.digests import BLOCK_BYTES, DigestKeys
from insitu.agent.stores.addresses import parse_address
from insitu.agent.stores.contract import ObjectInfo
from insitu.agent.stores.credentials import Credentials
from insitu.agent.stores.through_obstore import ObstoreStore
from tests.services import AZURITE_ACCOUNT, AZURITE_KEY, Service, cache_folder, program, wait_until

_ROUNDS = 5
_AT_ONCE = 8
_KEY = b"k" * 32


def measure(scene: Scene) -> Iterator[Row]:
    endpoint = scene.enter(_azurite(scene.fresh_folder("azurite")))
    sizes = {"1 GiB in 64 MiB blobs": (16, 64 << 20), "10,000 blobs of 16 KiB": (10_000, 16 << 10)}
    for figure, (count, size) in sizes.items():
        stored = _Stored.make(scene, endpoint, "large" if count < 100 else "small", count, size)
        rounds = scene.rounds(_ROUNDS)
        name = f"staging {figure}"
        ours, bare = in_turns(rounds, stored.stage, stored.bare)
        yield Row(
            name,
            "ms",
            milliseconds(ours),
            "obstore, 8 at a time, into memory",
            milliseconds(bare),
            Goal(at_most=1 / 0.9),
        )
        ours, files = in_turns(rounds, stored.stage, stored.bare_to_files, warm_up=False)
        yield Row(name, "ms", milliseconds(ours), "obstore, 8 at a time, into files", milliseconds(files))
        ours, adlfs = in_turns(rounds, stored.stage, stored.adlfs, warm_up=False)
        yield Row(name, "ms", milliseconds(ours), "adlfs, into files", milliseconds(adlfs), Goal(at_most=1 / 3))
        again = tuple(stored.again() for _ in range(21))
        yield Row(f"a second job on {figure}", "ms", milliseconds(again))
    yield _verifying(scene)
    yield _memory(scene, endpoint)


@dataclass
class _Stored:
    """Blobs in a container, and a version of them."""

    store: ObstoreStore
    raw: Any
    found: list[ObjectInfo]
    cache: DataCache
    version: Staged
    folder: Path
    container: str
    endpoint: str

    @staticmethod
    def make(scene: Scene, endpoint: str, container: str, count: int, size: int) -> _Stored:
        BlobServiceClient(endpoint, credential=AZURITE_KEY).create_container(container)
        store = ObstoreStore(
            parse_address(f"az://{container}", endpoint=endpoint), Credentials("file", {"account_key": AZURITE_KEY})
        )
        raw: Any = store._store
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda at: obstore.put(raw, f"{at:05}", os.urandom(size), use_multipart=False), range(count)))
        folder = scene.fresh_folder(f"staging-{container}")
        cache = DataCache(folder, _KEY, limit_bytes=1 << 40)
        found = sorted(store.list(), key=lambda one: one.name)
        with cache.take_in(found, store) as (manifest, digest, _):
            manifest.save(folder / "manifest.json")
        version = Staged("bench@1", digest, folder / "manifest.json", manifest.size_bytes)
        return _Stored(store, raw, found, cache, version, folder, container, endpoint)

    def stage(self) -> float:
        self.cache.drop(self.version)
        return seconds(lambda: self.cache.stage(self.version, lambda: self.store))

    def again(self) -> float:
        return seconds(lambda: self.cache.stage(self.version, lambda: self.store))

    def bare(self) -> float:
        return self._in_parallel(lambda one: obstore.get(self.raw, one.name).bytes())

    def bare_to_files(self) -> float:
        with self._emptied() as out:
            return self._in_parallel(lambda one: (out / one.name).write_bytes(obstore.get(self.raw, one.name).bytes()))

    def adlfs(self) -> float:
        protocol = f"DefaultEndpointsProtocol=http;AccountName={AZURITE_ACCOUNT};AccountKey={AZURITE_KEY}"
        files: Any = AzureBlobFileSystem(connection_string=f"{protocol};BlobEndpoint={self.endpoint};")
        with self._emptied() as out:
            return seconds(lambda: files.get(f"{self.container}/", str(out), recursive=True))

    def _in_parallel(self, get: Callable[[ObjectInfo], object]) -> float:
        def work() -> None:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                for _ in pool.map(get, self.found):
                    pass

        return seconds(work)

    @contextlib.contextmanager
    def _emptied(self) -> Iterator[Path]:
        out = self.folder / "out"
        out.mkdir()
        try:
            yield out
        finally:
            shutil.rmtree(out)


@contextlib.contextmanager
def _azurite(folder: Path) -> Iterator[str]:
    where = str(cache_folder() / "azurite" / "node_modules" / ".bin")
    options = ["--skipApiVersionCheck", "--disableTelemetry", "--blobHost", "127.0.0.1", "--blobPort", "0", "--silent"]
    command = [program("azurite-blob", "npm", where), *options, "--location", str(folder / "data")]
    log = folder / "log.txt"
    with ended_by_pid(command, log=log) as process:
        ready = re.compile(r"successfully listens on (http://127\.0\.0\.1:\d+)")
        found = wait_until(lambda: ready.search(log.read_text()), Service(process, log), "azurite-blob")
        yield f"{found[1]}/{AZURITE_ACCOUNT}"


def _verifying(scene: Scene) -> Row:
    block, keys = os.urandom(BLOCK_BYTES), DigestKeys.of(_KEY)
    ours, plain = in_turns(
        scene.rounds(21),
        lambda: seconds(lambda: [keys.leaf_of(block) for _ in range(8)]),
        lambda: seconds(lambda: [hashlib.sha256(block).digest() for _ in range(8)]),
    )
    return Row("verifying 64 MiB", "ms", milliseconds(ours), "hashlib.sha256", milliseconds(plain), Goal(at_most=1.25))


_STAGES_4_GIB = """
import sys
from pathlib import Path
from insitu.agent.staging.data_cache import DataCache
from insitu.agent.stores.addresses import parse_address
from insitu.agent.stores.credentials import Credentials
from insitu.agent.stores.through_obstore import ObstoreStore
import insitu.agent.main
def kib(what):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(what))
idle = kib("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # the peak counts from here (proc(5))
endpoint, key, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
store = ObstoreStore(parse_address("az://large", endpoint=endpoint), Credentials("file", {"account_key": key}))
cache = DataCache(folder, b"k" * 32, limit_bytes=1 << 40)
found = sorted(store.list(), key=lambda one: one.name)
for at in range(4):  # 1 GiB of other bytes each time would only fill the disk: the same again, after it was dropped
    with cache.take_in(found, store) as (manifest, digest, _):
        manifest.save(folder / "manifest.json")
    cache.views.remove(digest.removeprefix("sha256:"))
    cache.sweep()
print((kib("VmHWM") - idle) / 1024)
"""


def _memory(scene: Scene, endpoint: str) -> Row:
    folder = scene.fresh_folder("staging-memory")
    command = [sys.executable, "-c", _STAGES_4_GIB, endpoint, AZURITE_KEY, str(folder)]
    used = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return Row("memory over idle while staging 4 GiB", "MB", (used,), "300 MB", (300.0,), Goal(at_most=1.0))
