"""The hub as a process: `python -m insitu.hub.main`, or `serve(settings)` from the command line.

One process, one event loop (uvloop, httptools). The port is bound before anything
else is opened, so that a port in use is said at once. SIGTERM and SIGINT end it
quickly: waiting polls and streams are answered, what runs is finished.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from insitu.domain.errors import InsituError, UnavailableError
from insitu.hub.app import build_app
from insitu.hub.bulk_connection import BulkConnection
from insitu.hub.settings import HubSettings

_GRACE_S = 5  # for requests that run when the hub is told to stop
_BACKLOG = 2048
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # options of mallopt(3)


@dataclass(frozen=True)
class Ready:
    """What a hub says of itself once it answers."""

    url: str
    pid: int
    admin_token_file: str

    def as_line(self) -> str:
        return json.dumps({"ready": True, **self.__dict__}) + "\n"


def serve(settings: HubSettings, *, on_ready: Callable[[Ready], None] = lambda _: None) -> None:
    """Run a hub until it is told to stop. `on_ready` is called once, when it answers.

    Raises:
        UnavailableError: the port is in use, another hub runs on the folder, or folder or database can't be used.
    """
    # Requests are short and many; what writes MLflow computes for long, and would hold each of them up by 5 ms.
    sys.setswitchinterval(0.001)
    _keep_freed_memory()
    _set_up_logging(settings.log_level)
    listening = bind(settings.host, settings.port)
    try:
        port = listening.getsockname()[1]
        settings = replace(settings, port=port)
        app = build_app(settings)
        ready = Ready(settings.url, os.getpid(), str(settings.admin_token_file))
        server = Server(config(app, settings), app, lambda: on_ready(ready))
        server.run(sockets=[listening])
    finally:
        listening.close()


def config(app: FastAPI, settings: HubSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=BulkConnection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # An agent that hears nothing for this long between two requests connects again; connecting is cheap but not free.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_GRACE_S,
        backlog=_BACKLOG,
        log_level=settings.log_level,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )


class Server(uvicorn.Server):
    """Says when it is ready, and lets go of those who wait before it waits for them."""

    def __init__(self, configuration: uvicorn.Config, app: FastAPI, on_ready: Callable[[], None]) -> None:
        super().__init__(configuration)
        self._app = app
        self._on_ready = on_ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            yield
            # Stopping as one was told is success: uvicorn would raise the signal again and die of it.
            self._captured_signals.clear()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Long polls and streams would keep their connections open until their time is up.
        self._app.state.parts.bell.close()
        await super().shutdown(sockets)


def bind(host: str, port: int) -> socket.socket:
    """Listen, before anything else is opened.

    Raises:
        UnavailableError: the port is in use, or not ours to take.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    # After a restart the port is taken again at once, though old connections linger.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        # Now, and not when the server starts: two sockets may be bound to one port, but only one may listen.
        listening.listen(_BACKLOG)
    except OSError as exc:
        listening.close()
        raise UnavailableError(
            f"port {port} on {host} can't be used",
            code="port-in-use",
            why=exc.strerror or "",
            hint="stop what listens there, or choose another with `--port`; 0 takes one that is free",
        ) from exc
    return listening


def _keep_freed_memory() -> None:
    """Let the C library keep what was freed instead of giving it back and asking for it again at once.

    Bodies of transfers pass in pieces of some hundred kilobytes. Without this, four fifths of an upload's processor
    time are page faults.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # not every C library has it
    if set_option is not None:
        set_option(_MMAP_THRESHOLD, 32 << 20)
        set_option(_TRIM_THRESHOLD, 64 << 20)


def _set_up_logging(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # These would say each request of the hub's own to a registry, and each step of a migration.
    for noisy in ("alembic", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def main(arguments: Sequence[str] | None = None) -> int:
    """The hub from the command line. Secrets come from files and the environment, never from arguments."""
    given = _parser().parse_args(arguments)
    settings = HubSettings(
        data=given.data,
        database_url=os.environ.get("INSITU_HUB_DATABASE_URL", ""),
        host=given.host,
        port=given.port,
        public_url=given.public_url,
        tls_certificate=given.tls_certificate,
        tls_key=given.tls_key,
        registry=given.registry,
        registry_auth=given.registry_auth,
        base_layout=given.base_layout,
        cache=given.cache,
        wheel_store=given.wheel_store,
        index_url=given.index_url or os.environ.get("INSITU_HUB_INDEX_URL", ""),
        package_hosts=tuple(given.package_host),
        log_level=given.log_level,
    )

    def say(ready: Ready) -> None:
        if given.ready_fd is not None:
            with os.fdopen(given.ready_fd, "w") as stream:
                stream.write(ready.as_line())

    try:
        serve(settings, on_ready=say)
    except InsituError as exc:
        sys.stderr.write(f"error[{exc.code}]: {exc}\n")
        return exc.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="insitu.hub.main", description="The Insitu hub.")
    parser.add_argument("--data", type=Path, required=True, help="folder of everything that the hub keeps")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7400, help="0 takes one that is free")
    parser.add_argument("--public-url", default="", help="how people and agents reach it")
    parser.add_argument("--tls-certificate", type=Path, help="PEM file with the certificate and its chain")
    parser.add_argument("--tls-key", type=Path, help="PEM file with its key")
    parser.add_argument("--registry", default="", help="where images are pushed: http(s)://host[:port][/prefix]")
    parser.add_argument("--registry-auth", type=Path, help="file with user:password, mode 0600")
    parser.add_argument("--base-layout", type=Path, help="OCI layout that holds the bases")
    parser.add_argument("--cache", type=Path, help="folder of packages and compiled files; may be shared")
    parser.add_argument("--wheel-store", type=Path, help="folder of wheels by hash; may be shared")
    parser.add_argument("--index-url", default="", help="where wheels come from, instead of the lock's addresses")
    parser.add_argument("--package-host", action="append", default=[], help="that a lock's addresses may name")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    parser.add_argument("--ready-fd", type=int, help="file descriptor that gets one JSON line when the hub answers")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
