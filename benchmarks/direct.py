"""Mode `direct`: a job reads one object from its first byte to its last, against the bare stream of `obstore`.

Ours is the whole way: a process reads an address with the standard library, as
pandas does; the intake, a process of its own, passes the connection on; the agent
reads the store under the manifest's ETag, compares the digests of a folder's blocks
as well, and writes them to the connection. The reference is one loop over `obstore.get(…).stream()` on the same
object, whose pieces are thrown away. Both from Azurite, and from a folder whose
files are in memory already.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import obstore
from obstore.store import AzureStore, LocalStore

from benchmarks.azurite import a_file, container, start_azurite
from benchmarks.figures import Goal, Row, in_turns, seconds
from benchmarks.scene import Scene
from insitu.agent.stores.contract import ObjectStore
from insitu.agent.stores.folder import FolderStore
from tests.unit.agent.direct_world import DirectJob, a_direct_job

_ROUNDS = 7
_BYTES = 512 << 20
_QUICK_BYTES = 128 << 20
_GOAL = Goal(at_least=0.8)
_NAME = "table.bin"

_READER = """
import sys, time, urllib.request
begun, buffer = time.perf_counter(), memoryview(bytearray(1 << 20))
with urllib.request.urlopen(sys.argv[1]) as response:
    read = 0
    while filled := response.readinto(buffer):
        read += filled
print(time.perf_counter() - begun, read)
"""


def measure(scene: Scene) -> Iterator[Row]:
    size = _QUICK_BYTES if scene.quick else _BYTES
    source = os.urandom(8 << 20)
    folder = scene.fresh_folder("direct")
    data = folder / "data"
    data.mkdir()
    file = a_file(data / _NAME, size, source)
    azurite = start_azurite(scene)
    blobs = container(azurite, "direct")
    blobs.write(_NAME, file)
    bare_blobs = AzureStore(
        account_name=azurite.account,
        container_name="direct",
        endpoint=azurite.endpoint,
        account_key=azurite.key,
        client_options={"allow_http": True, "timeout": "10m"},
    )
    yield _row(scene, "sequential read, Azurite", scene.fresh_folder("job"), blobs, bare_blobs, size)
    yield _row(scene, "sequential read, a folder", folder, FolderStore(data), LocalStore(data), size)


def _row(scene: Scene, figure: str, folder: Path, store: ObjectStore, bare: Any, size_bytes: int) -> Row:
    with a_direct_job(folder, {}, store=store) as job:
        ours, theirs = in_turns(scene.rounds(_ROUNDS), _reading(job, size_bytes), lambda: _streaming(bare))
    rates = [tuple(size_bytes / 1e6 / took_s for took_s in samples) for samples in (ours, theirs)]
    return Row(figure, "MB/s", rates[0], "bare obstore stream", rates[1], _GOAL)


def _reading(job: DirectJob, size_bytes: int) -> Callable[[], float]:
    """A process of its own, as a job is: it would share this one's interpreter with the agent's part."""

    def read() -> float:
        command = [sys.executable, "-c", _READER, f"{job.url}/{_NAME}"]
        took_s, read_bytes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        if int(read_bytes) != size_bytes:
            raise RuntimeError(f"{read_bytes} bytes came")
        return float(took_s)

    return read


def _streaming(store: Any) -> float:
    def stream() -> None:
        for _ in obstore.get(store, _NAME).stream(min_chunk_size=1 << 20):
            pass

    return seconds(stream)
