"""MLflow's server, in this process: its Flask application and its artifact downloads, and nothing else of it.

MLflow's own FastAPI application would bring an AI gateway, an assistant that runs
commands, jobs and an MCP server; they are left out by not importing them. What is
here still answers to anybody: `mlflow_mount` stands in front.

MLflow's handlers ask global functions for their store. Those are replaced by ones
that answer for the hub that the request came to, so that no address of a database
stands in the environment, and several hubs can live in one process (tests do).
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import anyio
from fastapi import FastAPI
from mlflow.server import app as flask_app
from mlflow.server import handlers
from mlflow.server.artifact_router import artifact_router
from mlflow.server.server_info_api import server_info_router
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from insitu.hub.mlflow_store import Stores

_here: ContextVar[Stores] = ContextVar("stores")

handlers._get_tracking_store = lambda *_args, **_kwargs: _here.get().tracking
handlers._get_model_registry_store = lambda *_args, **_kwargs: _here.get().registry
handlers._get_artifact_repo_mlflow_artifacts = lambda: _here.get().artifacts

_THREADS = 16  # of one hub, for MLflow's pages; what the hub itself answers has its own


# What a browser shows before its owner has chosen: training runs rather than traces of language models, and no panel of
# an assistant that is not here. The keys are those of MLflow 3.17's pages; were they renamed, its own defaults would show.
_FIRST_VISIT = """
for (const [key, value] of [
  ["mlflow.workflowType_v1", '"machine_learning"'],
  ["mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true"],
]) try { if (localStorage.getItem(key) === null) localStorage.setItem(key, value) } catch {}
"""


def build_server(stores: Stores) -> ASGIApp:
    """MLflow's server over these stores, as an ASGI application to be called with `root_path` set."""
    server = FastAPI(openapi_url=None)
    server.add_api_route("/", _front_page, response_class=HTMLResponse)
    server.add_api_route("/first-visit.js", _first_visit)
    # The list of runs asks for an AI gateway's endpoints. MLflow would fetch what the caller names; here there are none.
    server.add_api_route("/ajax-api/2.0/mlflow/gateway-proxy", _no_gateway)
    # Before the catch-all: these stream files, and answer without a thread.
    server.include_router(artifact_router)
    server.include_router(server_info_router)
    server.mount("/", _FlaskApp(flask_app, anyio.CapacityLimiter(_THREADS)))

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        _here.set(stores)
        await server(scope, receive, send)

    return serve


def _front_page() -> HTMLResponse:
    """MLflow's page, which draws all others, with our word before its own scripts."""
    page = (Path(flask_app.static_folder or "") / "index.html").read_text()
    return HTMLResponse(page.replace("<head>", '<head><script src="first-visit.js"></script>', 1))


def _first_visit() -> Response:
    return Response(_FIRST_VISIT, media_type="text/javascript")


def _no_gateway() -> dict[str, list[str]]:
    return {"endpoints": []}


class _FlaskApp:
    """Calls a WSGI application (PEP 3333) in a thread. Bodies are small: the caller has bounded and read them."""

    def __init__(self, app: Callable[..., Iterable[bytes]], threads: anyio.CapacityLimiter) -> None:
        self._app = app
        self._threads = threads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        await anyio.to_thread.run_sync(self._answer, _environ(scope, body), send, limiter=self._threads)

    def _answer(self, environ: dict[str, Any], send: Send) -> None:
        async def say(message: Message) -> None:
            await send(message)

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
            if exc_info:
                raise exc_info[1].with_traceback(exc_info[2])
            raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
            start = {"type": "http.response.start", "status": int(status[:3]), "headers": raw}
            anyio.from_thread.run(say, start)

        chunks = self._app(environ, start_response)
        try:
            for chunk in chunks:
                anyio.from_thread.run(say, {"type": "http.response.body", "body": chunk, "more_body": True})
            anyio.from_thread.run(say, {"type": "http.response.body", "body": b""})
        finally:
            if close := getattr(chunks, "close", None):
                close()


def _environ(scope: Scope, body: bytes) -> dict[str, Any]:
    prefix = scope.get("root_path", "")
    host, port = scope.get("server") or ("localhost", 80)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": _as_wsgi(prefix),
        "PATH_INFO": _as_wsgi(scope["path"].removeprefix(prefix)),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port or 80),
        "SERVER_PROTOCOL": f"HTTP/{scope.get('http_version', '1.1')}",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in scope["headers"]:
        key = name.decode("latin-1").upper().replace("-", "_")
        if key == "CONTENT_TYPE":
            environ[key] = value.decode("latin-1")
        elif key != "CONTENT_LENGTH":
            environ[f"HTTP_{key}"] = value.decode("latin-1")
    return environ


def _as_wsgi(text: str) -> str:
    """Bytes as latin-1, as PEP 3333 wants its strings."""
    return text.encode().decode("latin-1")
