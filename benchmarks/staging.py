"""A dataset version from Azurite into the site's cache, against bare `obstore` in parallel, and against `adlfs`.

Ours ends when the version's view is there: every byte compared with the manifest's
digests, written, linked and synced. The bare reference gets whole blobs with as many
threads as ours and writes them to files; `adlfs` gets the container as its users do, in a
process and an environment of its own (`benchmarks/with_adlfs/requirements.txt`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
from obstore.store import AzureStore

from benchmarks.azurite import a_file, container, start_azurite
from benchmarks.figures import Goal, Row, in_turns, milliseconds, seconds
from benchmarks.scene import Scene
from insitu.agent.staging.data_cache import DataCache, Staged
from insitu.agent.staging.fetch import WORKERS
from insitu.agent.stores.addresses import StoreAddress
from insitu.agent.stores.credentials import Credentials
from insitu.agent.stores.through_obstore import ObstoreStore
from insitu.images.locks import find_uv
from tests.services import Azurite, cache_folder

_ROUNDS = 5
_KEY = b"k" * 32
_BARE, _ADLFS = "bare obstore, in parallel", "adlfs"
_AT_ONCE_MS = 50.0
_MEMORY_MB = 300.0
_MEMORY_BYTES, _QUICK_MEMORY_BYTES = 4 << 30, 512 << 20
_HERE = Path(__file__).parent


def measure(scene: Scene) -> Iterator[Row]:
    azurite = start_azurite(scene)
    few = 16 if not scene.quick else 4
    many = 10_000 if not scene.quick else 500
    large = _Blobs.made(scene, azurite, "large", count=few, size_bytes=64 << 20)
    small = _Blobs.made(scene, azurite, "small", count=many, size_bytes=16 << 10)
    for blobs, what in ((large, f"{few} blobs of 64 MiB"), (small, f"{many:,} blobs of 16 KiB")):
        ours, bare = in_turns(scene.rounds(_ROUNDS), blobs.stage, blobs.get_bare)
        yield Row(f"staging {what}", "MB/s", blobs.rates(ours), _BARE, blobs.rates(bare), Goal(at_least=0.9))
        ours, theirs = in_turns(scene.rounds(_ROUNDS), blobs.stage, blobs.get_with_adlfs)
        yield Row(f"staging {what}", "MB/s", blobs.rates(ours), _ADLFS, blobs.rates(theirs), Goal(at_least=3.0))
        again = milliseconds(blobs.stage_again(scene.rounds(_ROUNDS)))
        goal = (f"{_AT_ONCE_MS:g} ms", (_AT_ONCE_MS,), Goal(at_most=1.0))
        yield Row(f"… {what}, for a second job", "ms", again, *goal)
    yield _verifying(scene)
    yield _memory(scene, azurite)


@dataclass(frozen=True)
class _Blobs:
    """Equal blobs in a container of Azurite, and the version that they are."""

    scene: Scene
    azurite: Azurite
    name: str
    store: ObstoreStore
    bare: Any
    version: Staged
    names: list[str]
    size_bytes: int

    @classmethod
    def made(cls, scene: Scene, azurite: Azurite, name: str, *, count: int, size_bytes: int) -> _Blobs:
        store = container(azurite, name)
        bare = AzureStore(
            account_name=azurite.account,
            container_name=name,
            endpoint=azurite.endpoint,
            account_key=azurite.key,
            client_options={"allow_http": True, "timeout": "10m"},
        )
        source = os.urandom(size_bytes)
        with ThreadPoolExecutor(WORKERS) as workers:
            # Each differs: equal ones are kept once.
            bodies = ((f"part-{number:05}", number) for number in range(count))
            list(workers.map(lambda one: obstore.put(bare, one[0], one[1].to_bytes(4, "big") + source[4:]), bodies))
        folder = scene.fresh_folder(f"version-{name}")
        found = sorted(store.list(), key=lambda one: one.name)
        with _cache_in(folder).take_in(found, store) as (manifest, digest, _):
            manifest.save(folder / "manifest.json")
        shutil.rmtree(folder / "cache")
        version = Staged(f"{name}@1", digest, folder / "manifest.json", count * size_bytes)
        return cls(
            scene, azurite, name, store, bare, version, [f"part-{n:05}" for n in range(count)], count * size_bytes
        )

    def rates(self, took_s: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(self.size_bytes / 1e6 / one for one in took_s)

    def stage(self) -> float:
        return self._into_fresh_folder(lambda folder: self._cache(folder).stage(self.version, lambda: self.store))

    def stage_again(self, rounds: int) -> tuple[float, ...]:
        folder = self.scene.fresh_folder("cache")
        cache = self._cache(folder)
        cache.stage(self.version, lambda: self.store)
        took = tuple(seconds(lambda: cache.stage(self.version, lambda: self.store)) for _ in range(rounds))
        shutil.rmtree(folder)
        return took

    def get_bare(self) -> float:
        def get(folder: Path) -> None:
            with ThreadPoolExecutor(WORKERS) as workers:
                list(workers.map(lambda name: self._get(name, folder), self.names))

        return self._into_fresh_folder(get)

    def _get(self, name: str, folder: Path) -> None:
        with (folder / name).open("wb", buffering=0) as file:
            for piece in obstore.get(self.bare, name).stream(min_chunk_size=8 << 20):
                file.write(piece)

    def get_with_adlfs(self) -> float:
        folder = self.scene.fresh_folder("adlfs")
        connection = (
            f"DefaultEndpointsProtocol=http;AccountName={self.azurite.account};AccountKey={self.azurite.key};"
            f"BlobEndpoint={self.azurite.endpoint};"
        )
        command = [str(_adlfs_python()), str(_HERE / "with_adlfs" / "fetch.py"), self.name, str(folder / "got")]
        done = subprocess.run(command, input=connection, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"adlfs: {done.stderr[-300:]}")
        shutil.rmtree(folder)
        return float(done.stdout)

    def _cache(self, folder: Path) -> DataCache:
        return _cache_in(folder)

    def _into_fresh_folder(self, what: Callable[[Path], object]) -> float:
        folder = self.scene.fresh_folder("got")
        took_s = seconds(lambda: what(folder))
        shutil.rmtree(folder)
        return took_s


def _cache_in(folder: Path) -> DataCache:
    (folder / "cache").mkdir(exist_ok=True)
    return DataCache(folder / "cache", _KEY)


def _adlfs_python() -> Path:
    """The interpreter of an environment that has adlfs; made once on this machine."""
    folder = cache_folder() / "bench" / "adlfs"
    wanted = (_HERE / "with_adlfs" / "requirements.txt").read_bytes()
    made = folder / "made-from"
    if not made.exists() or made.read_bytes() != wanted:
        uv = str(find_uv())
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
        install = [uv, "pip", "install", "--quiet", "--require-hashes", "--compile-bytecode"]
        requirements = ["--requirements", str(_HERE / "with_adlfs" / "requirements.txt")]
        subprocess.run([*install, "--python", str(folder / "bin" / "python"), *requirements], check=True)
        made.write_bytes(wanted)
    return folder / "bin" / "python"


def _verifying(scene: Scene) -> Row:
    size = 256 << 20 if scene.quick else 1 << 30
    file = a_file(scene.fresh_folder("verify") / "file", size, os.urandom(8 << 20))
    cache = _cache_in(scene.fresh_folder("cache"))

    def plainly() -> None:
        with file.open("rb") as stream:
            hashlib.file_digest(stream, "sha256")

    ours, theirs = in_turns(
        scene.rounds(_ROUNDS), lambda: seconds(lambda: cache.keys.of_file(file)), lambda: seconds(plainly)
    )
    rates = [tuple(size / 1e6 / took_s for took_s in samples) for samples in (ours, theirs)]
    return Row("verifying what is staged", "MB/s", rates[0], "hashlib.sha256 of the file", rates[1], Goal(at_least=0.8))


_STAGE_IN_A_PROCESS = """
import sys
from benchmarks.staging import memory_kib, stage_once
before = memory_kib("VmRSS")
stage_once(*sys.argv[1:])
print((memory_kib("VmHWM") - before) / 1024)
"""


def _memory(scene: Scene, azurite: Azurite) -> Row:
    """How much larger a process gets that stages much: its peak, less what it had with all imported."""
    count = (_QUICK_MEMORY_BYTES if scene.quick else _MEMORY_BYTES) // (64 << 20)
    blobs = _Blobs.made(scene, azurite, "memory", count=count, size_bytes=64 << 20)
    peaks: list[float] = []
    for _ in range(1 if scene.quick else 2):
        folder = scene.fresh_folder("peak")
        command = [sys.executable, "-c", _STAGE_IN_A_PROCESS, azurite.endpoint, "memory", str(blobs.version.manifest)]
        done = subprocess.run(
            [*command, blobs.version.digest, str(blobs.size_bytes), str(folder)],
            input=azurite.key,
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(float(done.stdout))
        shutil.rmtree(folder)
    figure = f"memory that staging {blobs.size_bytes >> 20:,} MiB takes"
    return Row(figure, "MB", tuple(peaks), f"{_MEMORY_MB:g} MB", (_MEMORY_MB,), Goal(at_most=1.0))


def memory_kib(what: str) -> int:
    """Of this process, as /proc says. (`ru_maxrss` would begin with what the process had that started it.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


def stage_once(endpoint: str, name: str, manifest: str, digest: str, size_bytes: str, folder: str) -> None:
    """In a process of its own; the account's key comes on standard input."""
    address = StoreAddress("azure", container=name, endpoint=endpoint, account=Azurite.account)
    store = ObstoreStore(address, Credentials("file", {"account_key": sys.stdin.read()}))
    version = Staged(f"{name}@1", digest, Path(manifest), int(size_bytes))
    _cache_in(Path(folder)).stage(version, lambda: store)
