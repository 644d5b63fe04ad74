"""A hub's way of taking bodies, and nothing behind it: `python -m benchmarks.taker PORT FOLDER` throws away what comes.

Server, connection and body are the hub's own; identity, disk and digest are left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from insitu.hub.api.file_bodies import take_body
from insitu.hub.main import config
from insitu.hub.settings import HubSettings

app = FastAPI()


@app.get("/")
def up() -> Response:
    """Whether it runs."""
    return Response()


@app.post("/")
async def take(request: Request) -> Response:
    """Take a body, and keep nothing."""
    await take_body(request, lambda _: None)
    return Response(status_code=204)


if __name__ == "__main__":
    port, folder = sys.argv[1:]
    uvicorn.Server(config(app, HubSettings(data=Path(folder), port=int(port), log_level="warning"))).run(
        sockets=[uvicorn.Config(app, host="127.0.0.1", port=int(port)).bind_socket()]
    )
