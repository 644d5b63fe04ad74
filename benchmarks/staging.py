"""A dataset version from Azurite into the site's cache, against bare `obstore` in parallel, and against `adlfs`.

Ours begins with a cache that has its folders, as a site's has from its first version on, and ends when
the version's view is there: every byte compared with the manifest's digests, written and linked. The bare reference gets whole blobs with as many threads
as ours begins with and writes them to files on the same disk, a mebibyte at a time; it compares nothing. On two cores, of which Azurite
takes one, that is what tells them apart: a row of its own has the same with SHA-256. `adlfs` gets the container
as its users do, in a process and an environment of its own (`benchmarks/with_adlfs/requirements.txt`), with its own
defaults: 128 blobs at once.

All find the disk alike. What the one before has written is on it (`sync`) when the next begins. Files by the thousand
are removed at the end alone, and each turn's folder lies in a part of the disk of its own (`disk.py` says why). How
long the files alone take has a row of its own.

The small blobs are staged by 2,000, and all 10,000 once, for the second job.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import obstore
from obstore.store import AzureStore

from benchmarks.azurite import a_file, container, start_azurite
from benchmarks.disk import spread
from benchmarks.figures import Goal, Row, all_in_turns, in_turns, milliseconds, seconds
from benchmarks.scene import Scene
from insitu.agent.staging.data_cache import DataCache, Staged
from insitu.agent.staging.digests import BLOCK_BYTES, DigestKeys
from insitu.agent.staging.fetch import WORKERS
from insitu.agent.staging.manifest import Manifest, ManifestObject
from insitu.agent.staging.workers import at_least
from insitu.agent.stores.addresses import StoreAddress
from insitu.agent.stores.credentials import Credentials
from insitu.agent.stores.through_obstore import ObstoreStore
from insitu.images.locks import find_uv
from tests.services import Azurite, cache_folder

Place = TypeVar("Place")

_ROUNDS = 5
_SMALL_ROUNDS = 15
"""They take a third of a second, which one busy moment of the disk or of Azurite doubles."""
_KEY = b"k" * 32
_BARE, _IN_MEMORY, _ADLFS = "bare obstore, to files", "bare obstore, thrown away", "adlfs"
_FILES = "the files alone, without a store"
_HASHED = "bare obstore, to files and hashed"
_AT_ONCE_MS = 50.0
_MEMORY_MB = 300.0
_MEMORY_BYTES, _QUICK_MEMORY_BYTES = 4 << 30, 512 << 20
_LARGE, _SMALL = 64 << 20, 16 << 10
_REMOVED_AT_ONCE = 1 << 20
"""Files from this size on: they fill the disk, and are few."""
_HERE = Path(__file__).parent


def measure(scene: Scene) -> Iterator[Row]:
    azurite = start_azurite(scene)
    rounds = scene.rounds(_ROUNDS)
    large = _Blobs.made(scene, azurite, "large", count=16 if not scene.quick else 4, size_bytes=_LARGE)
    yield from _rates(large, "64 MiB", rounds)
    small = _Blobs.made(scene, azurite, "small", count=2000 if not scene.quick else 200, size_bytes=_SMALL)
    yield from _rates(small, "16 KiB", scene.rounds(_SMALL_ROUNDS))
    yield _again(large, "64 MiB", rounds)
    many = _Blobs.made(scene, azurite, "many", count=10_000 if not scene.quick else 500, size_bytes=_SMALL)
    yield _again(many, "16 KiB", rounds)
    yield _verifying(scene)
    yield _memory(scene, azurite)


def _rates(blobs: _Blobs, what: str, rounds: int) -> Iterator[Row]:
    ways = (blobs.stage, blobs.get_to_files, blobs.get_with_adlfs, blobs.get_and_hash, blobs.get, blobs.make_files)
    samples = all_in_turns(rounds, *ways)
    ours, to_files, adlfs, *others = map(blobs.rates, samples)
    figure = f"staging {len(blobs.names):,} blobs of {what}"
    yield Row(figure, "MB/s", ours, _BARE, to_files, Goal(at_least=0.9))
    for against, theirs in zip((_HASHED, _IN_MEMORY, _FILES), others, strict=True):
        yield Row("… the same", "MB/s", ours, against, theirs)
    yield Row("… the same", "MB/s", ours, _ADLFS, adlfs, Goal(at_least=3.0))
    yield Row("· what bare obstore reaches, to files", "MB/s", to_files, _ADLFS, adlfs)


def _again(blobs: _Blobs, what: str, rounds: int) -> Row:
    took = milliseconds(blobs.stage_again(rounds))
    figure = f"staging {len(blobs.names):,} blobs of {what} for a second job"
    return Row(figure, "ms", took, f"{_AT_ONCE_MS:g} ms", (_AT_ONCE_MS,), Goal(at_most=1.0))


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
    disk: Path
    """Where what is fetched comes to lie."""

    @classmethod
    def made(cls, scene: Scene, azurite: Azurite, name: str, *, count: int, size_bytes: int) -> _Blobs:
        """Put there once, and written down as `data add` does, whose bytes need not be fetched for that: they are ours."""
        store = container(azurite, name)
        bare = AzureStore(
            account_name=azurite.account,
            container_name=name,
            endpoint=azurite.endpoint,
            account_key=azurite.key,
            # Azurite closes what was idle for five seconds, and this one tries nothing twice.
            client_options={"allow_http": True, "timeout": "10m", "pool_idle_timeout": "2s"},
            retry_config={"max_retries": 0},
        )
        source = os.urandom(size_bytes)
        keys = DigestKeys.of(_KEY).newest

        def put(number: int) -> tuple[bytes, ...]:
            body = number.to_bytes(4, "big") + source[4:]  # each differs: equal ones are kept once
            obstore.put(bare, _part(number), body)
            view = memoryview(body)
            return tuple(keys.leaf_of(view[at : at + BLOCK_BYTES]) for at in range(0, size_bytes, BLOCK_BYTES))

        with ThreadPoolExecutor(WORKERS) as workers:
            leaves = dict(zip(map(_part, range(count)), workers.map(put, range(count)), strict=True))
        objects = [
            ManifestObject(
                found.name,
                size_bytes,
                found.etag,
                keys.root_of(size_bytes, leaves[found.name]),
                leaves[found.name] if size_bytes > BLOCK_BYTES else (),
            )
            for found in sorted(store.list(), key=lambda one: one.name)
        ]
        manifest, path = Manifest(tuple(objects)), scene.fresh_folder(f"version-{name}") / "manifest.json"
        manifest.save(path)
        version = Staged(f"{name}@1", manifest.digest(_KEY), path, count * size_bytes)
        disk = spread(scene.fresh_folder(f"disk-{name}"))
        return cls(scene, azurite, name, store, bare, version, list(leaves), count * size_bytes, disk)

    def rates(self, took_s: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(self.size_bytes / 1e6 / one for one in took_s)

    def stage(self) -> float:
        return self._into_fresh_folder(_cache_in, lambda cache: cache.stage(self.version, lambda: self.store))

    def stage_again(self, rounds: int) -> tuple[float, ...]:
        with self._fresh_folder() as folder:
            cache = _cache_in(folder)
            cache.stage(self.version, lambda: self.store)
            return tuple(seconds(lambda: cache.stage(self.version, lambda: self.store)) for _ in range(rounds))

    def get(self) -> float:
        return seconds(lambda: self._each(self._read))

    def get_to_files(self) -> float:
        return self._into_fresh_folder(Path, lambda folder: self._each(lambda name: self._write(name, folder)))

    def get_and_hash(self) -> float:
        return self._into_fresh_folder(
            Path, lambda folder: self._each(lambda name: self._write(name, folder, hashed=True))
        )

    def make_files(self) -> float:
        """As many files with as many bytes, by as many threads, a mebibyte at a time, and nothing else."""
        size = self.size_bytes // len(self.names)
        piece = os.urandom(min(size, 1 << 20))

        def make(name: str, folder: Path) -> None:
            with (folder / name).open("wb", buffering=0) as file:
                for _ in range(0, size, len(piece)):
                    file.write(piece)

        return self._into_fresh_folder(Path, lambda folder: self._each(lambda name: make(name, folder)))

    def _each(self, what: Callable[[str], None]) -> None:
        # As many as ours begins with: on the machine that was measured they are a little quicker than eight.
        with ThreadPoolExecutor(at_least()) as workers:
            list(workers.map(what, self.names))

    def _read(self, name: str) -> None:
        for _ in self._pieces(name):
            pass

    def _write(self, name: str, folder: Path, *, hashed: bool = False) -> None:
        digest = hashlib.sha256()
        with (folder / name).open("wb", buffering=0) as file:
            for piece in self._pieces(name):
                if hashed:
                    digest.update(piece)
                file.write(piece)

    def _pieces(self, name: str) -> Iterator[Any]:
        return iter(obstore.get(self.bare, name).stream(min_chunk_size=1 << 20))

    def get_with_adlfs(self) -> float:
        connection = (
            f"DefaultEndpointsProtocol=http;AccountName={self.azurite.account};AccountKey={self.azurite.key};"
            f"BlobEndpoint={self.azurite.endpoint};"
        )
        with self._fresh_folder() as folder:
            command = [str(_adlfs_python()), str(_HERE / "with_adlfs" / "fetch.py"), self.name, str(folder / "got")]
            done = subprocess.run(command, input=connection, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"adlfs: {done.stderr[-300:]}")
        return float(done.stdout)

    def _into_fresh_folder(self, ready: Callable[[Path], Place], what: Callable[[Place], object]) -> float:
        """Seconds that `what` takes, without those for the folder that `ready` sets up."""
        with self._fresh_folder() as folder:
            place = ready(folder)
            return seconds(lambda: what(place))

    @contextlib.contextmanager
    def _fresh_folder(self) -> Iterator[Path]:
        """For one turn, which pays neither for what the one before left to be written nor for what it removed."""
        os.sync()
        folder = Path(tempfile.mkdtemp(dir=self.disk))
        yield folder
        if self.size_bytes // len(self.names) >= _REMOVED_AT_ONCE:
            shutil.rmtree(folder)


def _part(number: int) -> str:
    return f"part-{number:05}"


def _cache_in(folder: Path) -> DataCache:
    (folder / "cache").mkdir(exist_ok=True)
    cache = DataCache(folder / "cache", _KEY)
    cache.objects.make()
    return cache


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
        scene.rounds(_ROUNDS), lambda: seconds(lambda: cache.keys.newest.of_file(file)), lambda: seconds(plainly)
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
    for _ in range(scene.rounds(_ROUNDS)):
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
