"""Azurite as a private blob store, for benches: Azure's protocol over loopback, as quick as its own options let it be.

It is one process on the processor that the client wants too, so what it spends is missing there, for everybody who is
measured. Two things are spared it: it holds its bytes in memory and keeps no log of requests; and its garbage is
collected by its one thread, at its turn. By default V8 does that in threads beside, begins anew with each 64 MB that
went through, and takes up to twice what sending them takes, now and then: figures of all clients were whatever it did.
"""

from __future__ import annotations

import re
import signal
from pathlib import Path

from benchmarks.scene import Scene
from insitu.agent.stores.addresses import StoreAddress
from insitu.agent.stores.credentials import Credentials
from insitu.agent.stores.through_obstore import ObstoreStore
from tests.services import Azurite, cache_folder, program, service, wait_until


def start_azurite(scene: Scene) -> Azurite:
    """Running until the end of this run, in as much memory as is put there."""
    folder = scene.fresh_folder("azurite")
    where = str(cache_folder() / "azurite" / "node_modules" / ".bin")
    azurite = Path(program("azurite-blob", "npm, then scripts/bootstrap test", where)).resolve()
    options = ["--skipApiVersionCheck", "--blobHost", "127.0.0.1", "--blobPort", "0", "--disableTelemetry"]
    quick = ["--inMemoryPersistence", "--silent"]
    command = [program("node", "nodejs"), "--single-threaded-gc", str(azurite), *options, *quick]
    # What it holds is thrown away with it: it need not end in order, and must not outlive us in any case.
    running = scene.enter(service(command, folder / "log.txt", stop=signal.SIGKILL))

    def endpoint() -> str | None:
        said = re.search(r"successfully listens on (http://127\.0\.0\.1:\d+)", running.said())
        return said[1] if said else None

    return Azurite(f"{wait_until(endpoint, running, 'azurite-blob')}/{Azurite.account}")


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
