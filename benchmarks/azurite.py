"""Azurite as a private blob store, for benches: Azure's protocol over loopback, its bytes on this machine's disk."""

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
    """Running until the end of this run."""
    folder = scene.fresh_folder("azurite")
    where = str(cache_folder() / "azurite" / "node_modules" / ".bin")
    options = ["--skipApiVersionCheck", "--blobHost", "127.0.0.1", "--blobPort", "0", "--disableTelemetry"]
    command = [program("azurite-blob", "npm, then scripts/bootstrap test", where), *options, "--location", str(folder)]
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
