"""A job that reads data through its gate: a real intake process, the agent's feed, a store that can be told to misbehave."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from insitu.agent.direct.feed_server import FeedServer, Granted
from insitu.agent.staging.digests import BLOCK_BYTES, DigestKeys
from insitu.agent.staging.manifest import ManifestObject
from insitu.agent.stores.contract import ObjectStore
from insitu.agent.stores.folder import FolderStore
from insitu.intake.inputs import write_list
from tests.unit.intake.served_job import ServedJob, a_pool, a_request

KEYS = DigestKeys.of(b"k" * 32)


def manifest_of(store: ObjectStore, prefix: str = "") -> list[ManifestObject]:
    """What `data add` writes down of a store's objects."""
    found: list[ManifestObject] = []
    for info in sorted(store.list(prefix), key=lambda one: one.name):
        data = bytes(store.read(info.name, 0, info.size_bytes))
        leaves = [KEYS.newest.leaf_of(data[at : at + BLOCK_BYTES]) for at in range(0, max(len(data), 1), BLOCK_BYTES)]
        digest = KEYS.newest.root_of(len(data), leaves)
        kept = tuple(leaves) if len(leaves) > 1 else ()
        found.append(ManifestObject(info.name, info.size_bytes, info.etag, digest, kept))
    return found


@dataclass
class DirectJob:
    """What a script in the job has: an address."""

    url: str
    port: int
    pids: list[int]
    """Who may ask the feed."""
    feed: FeedServer
    start_feed: Callable[[], FeedServer]
    """Another one in its place, as an agent that starts anew has it."""
    served: ServedJob
    data: Path
    connections: list[http.client.HTTPConnection] = field(default_factory=list)

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self.connections.append(connection)
        return connection

    def get(self, path: str, *, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        connection = self.connections[0] if self.connections else self.connect()
        connection.request(
            method, f"/inputs/{path}", headers={name.replace("_", "-"): v for name, v in headers.items()}
        )
        response = connection.getresponse()
        return response, response.read()

    def index(self, name: str = "patients") -> list[dict[str, Any]]:
        return json.loads(self.get(name)[1])["objects"]


@contextmanager
def a_direct_job(
    folder: Path, files: Mapping[str, bytes], *, store: ObjectStore | None = None, wait_s: float = 0.0
) -> Iterator[DirectJob]:
    """A job with the input `patients` of those files; `data` is where they lie, `wait_s` how long it waits for an agent."""
    data = folder / "data"
    for name, content in files.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(content)
    store = store or FolderStore(data)
    objects = manifest_of(store)
    state = folder / "state"
    state.mkdir()
    write_list(state / "inputs" / "patients.json", [(one.name, one.size_bytes, one.digest) for one in objects])
    granted = {"patients": Granted("wdbc@1", objects, lambda: store)}
    with ExitStack() as ends:
        pids: list[int] = []

        def start_feed() -> FeedServer:
            feed = FeedServer(state / "feed.sock", granted, KEYS, folder / "read.json", may_ask=lambda: pids[0])
            feed.start()
            ends.callback(feed.stop)
            return feed

        feed = start_feed()
        pool = a_pool()
        ends.callback(pool.close)
        door = ends.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = door.getsockname()[1]
        inputs = {"patients": str(state / "inputs" / "patients.json")}
        address = f"http://127.0.0.1:{port}"
        request = a_request(state, inputs=inputs, feed=str(state / "feed.sock"), feed_wait_s=wait_s, address=address)
        handle = pool.start(request)
        pids.append(handle.pid)
        ends.callback(handle.kill)
        _give_door(state / "control.sock", door)
        job = DirectJob(f"{address}/inputs/patients", port, pids, feed, start_feed, ServedJob(state, handle), data)
        ends.callback(lambda: [connection.close() for connection in job.connections])
        yield job


def _give_door(control: Path, door: socket.socket) -> None:
    """As the sandbox's keeper does with the socket that listens inside."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as keeper:
        keeper.connect(str(control))
        socket.send_fds(keeper, [b"gate"], [door.fileno()])
        keeper.recv(100)


def random_bytes(size: int) -> bytes:
    return os.urandom(size)
