"""The serving process: listen, load, answer, and on SIGTERM finish what was asked.

It listens before it loads: `/v2/health/live` answers at once and `/v2/health/ready`
turns 200 when the model is there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import stat
import sys
from pathlib import Path

from insitu.serving.errors import StartError
from insitu.serving.http_server import Limits, Server
from insitu.serving.mlmodel import ModelDescription, read_mlmodel
from insitu.serving.onnx_model import load_onnx
from insitu.serving.routes import Routes
from insitu.serving.sklearn_model import LoadedModel, load_model


async def serve(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT.

    Raises:
        StartError: the model can't be loaded, or the address can't be had.
    """
    description = read_mlmodel(args.model)
    routes = Routes(name=args.name, version=args.version, mlflow_version=description.mlflow_version)
    server = Server(routes, Limits(body_bytes=args.max_body, answer_s=args.answer_s))
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    where = await _listen(server, args)
    loading = loop.run_in_executor(None, _load, description, args)
    waiting = loop.create_task(stopping.wait())
    await asyncio.wait({loading, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if not stopping.is_set():
        routes.serve(loading.result(), batch_rows=max(1, args.batch_rows))
        _say({"serving": args.name, "version": args.version, "at": where})
        await waiting
    routes.draining = True
    await server.drain(args.drain_s)
    if args.uds:
        _remove(args.uds)
    if not loading.done():
        os._exit(0)  # asyncio would wait for the loading thread, which may take seconds more
    return 0


def _load(description: ModelDescription, args: argparse.Namespace) -> LoadedModel:
    if description.flavor == "onnx":
        return load_onnx(description, threads=args.math_threads)
    return load_model(description, tuple(args.trusted_type))


async def _listen(server: Server, args: argparse.Namespace) -> str:
    try:
        if args.uds:
            _clear_stale(args.uds)
            await server.listen(uds=str(args.uds))
            _open_to_proxy(args.uds)
            return str(args.uds)
        host, port = await server.listen(host=args.host, port=args.port)
        return f"{host}:{port}"
    except OSError as exc:
        address = args.uds or f"{args.host}:{args.port}"
        raise StartError(
            f"{address} can't be listened on.",
            code="address-in-use",
            why=exc.strerror or type(exc).__name__,
            hint="stop what listens there, or choose another address",
        ) from exc


def _clear_stale(path: Path) -> None:
    """Remove a socket that a killed process left; one that somebody listens on stays."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(17, "a file that is no socket is there")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise FileExistsError(98, "another process listens there")


def _open_to_proxy(path: Path) -> None:
    # Whoever can reach the folder may connect: the one who proxies is another user than this one.
    path.chmod(0o666)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _say(fields: dict[str, str]) -> None:
    sys.stderr.write(json.dumps(fields) + "\n")
    sys.stderr.flush()
