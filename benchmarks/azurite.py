"""Azurite as a private blob store, for benches: Azure's protocol over loopback, as quick as its own options let it be.

It is one process on the processor that the client wants too, so what it spends is missing there, for everybody who is
measured. Some things are spared it. It holds its bytes in memory and keeps no log of requests. Its garbage is
collected by its one thread, at its turn: by default V8 does that in threads beside, begins anew with each 64 MB that
went through, and takes up to twice what sending them takes, now and then: figures of all clients were whatever it did.
It has more room before that is due (`--max-semi-space-size`): large blobs by bare obstore came a fifth faster.
And it is a newer Azurite than the tests' one, which has to run on the node of Debian 12: a small blob takes it half of
the time, and a large one two thirds. It is installed beside, with the node that it wants
(`with_azurite/package.json`), as its lock says, by hashes.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from pathlib import Path

from benchmarks.scene import Scene
from insitu.agent.stores.addresses import StoreAddress
from insitu.agent.stores.credentials import Credentials
from insitu.agent.stores.through_obstore import ObstoreStore
from tests.services import Azurite, cache_folder, program, service, wait_until

_WANTED = Path(__file__).parent / "with_azurite"


def start_azurite(scene: Scene) -> Azurite:
    """Running until the end of this run, in as much memory as is put there."""
    folder = scene.fresh_folder("azurite")
    modules = _installed() / "node_modules"
    (node,) = modules.glob("node-linux-*/bin/node")  # npm installs that of this processor
    azurite = (modules / ".bin" / "azurite-blob").resolve()
    options = ["--skipApiVersionCheck", "--blobHost", "127.0.0.1", "--blobPort", "0", "--disableTelemetry"]
    quick = ["--inMemoryPersistence", "--silent"]
    command = [str(node), "--single-threaded-gc", "--max-semi-space-size=64", str(azurite), *options, *quick]
    # What it holds is thrown away with it: it need not end in order, and must not outlive us in any case.
    running = scene.enter(service(command, folder / "log.txt", stop=signal.SIGKILL))

    def endpoint() -> str | None:
        said = re.search(r"successfully listens on (http://127\.0\.0\.1:\d+)", running.said())
        return said[1] if said else None

    return Azurite(f"{wait_until(endpoint, running, 'azurite-blob')}/{Azurite.account}")


def _installed() -> Path:
    """A folder with Azurite and its node; made once on this machine, and again when its lock changes."""
    folder, lock = cache_folder() / "bench" / "azurite", _WANTED / "package-lock.json"
    made = folder / "made-from"
    if not made.exists() or made.read_bytes() != lock.read_bytes():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(_WANTED / name, folder)
        npm = [program("npm", "npm"), "ci", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run([*npm, "--loglevel=error"], stdout=subprocess.DEVNULL, check=True)
        made.write_bytes(lock.read_bytes())
    return folder


def container(azurite: Azurite, name: str) -> ObstoreStore:
    """A new, empty container, as a site's datastore."""
    azurite.container(name)
    address = StoreAddress("azure", container=name, endpoint=azurite.endpoint, account=azurite.account)
    return ObstoreStore(address, Credentials("file", {"account_key": azurite.key}))


def a_file(path: Path, size_bytes: int, source: bytes) -> Path:
    """A file of so many bytes, of `source` over and over; nothing between here and there compresses."""
    with path.open("wb") as file:
        while size_bytes > 0:
            size_bytes -= file.write(source[:size_bytes])
    return path
