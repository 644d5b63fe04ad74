"""The one place where the hub's parts meet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import anyio.to_thread
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from insitu.domain.errors import AuthenticationError
from insitu.hub.actions.people import authenticate
from insitu.hub.api import (
    agents,
    blobs,
    deployments,
    errors,
    images,
    jobs,
    models,
    service,
    sites,
    streams,
    tokens,
    wheels,
)
from insitu.hub.bell import Bell
from insitu.hub.blobs import Blobs
from insitu.hub.loops import build_images, notice_sites, place_jobs, write_mlflow
from insitu.hub.loops.base import Loop, LoopThread
from insitu.hub.mlflow_mount import Authenticate, mlflow_app
from insitu.hub.opening import OpenedFolder, open_folder
from insitu.hub.parts import Clock, Parts
from insitu.hub.settings import HubSettings
from insitu.hub.tracking import Tracking, TrackingSettings
from insitu.hub.wheels import Wheels
from insitu.images.layout import OciLayout
from insitu.images.wheel_download import PYPI_HOSTS, WheelSource
from insitu.images.wheel_store import WheelStore
from insitu.wire.people import Role

_THREADS = 64  # for endpoints, which wait for the database more than they compute
_STOP_S = 5.0


def _now() -> datetime:
    return datetime.now(UTC)


def build_app(
    settings: HubSettings, *, clock: Clock = _now, tracking: Callable[[TrackingSettings], Tracking] = Tracking
) -> FastAPI:
    """A hub over its data folder, ready to be served. It works from the lifespan's start to its end.

    Raises:
        UnavailableError: another hub runs on the folder, or folder or database can't be used.
    """
    bell = Bell()
    opened = open_folder(settings, bell=bell, clock=clock)
    files = Blobs(settings.blobs, settings.uploads, max_bytes=settings.max_blob_bytes)
    parts = Parts(
        settings=settings,
        store=opened.store,
        bell=bell,
        blobs=files,
        wheels=Wheels(WheelStore(settings.wheels), _wheel_source(settings), files),
        images=OciLayout(settings.images),
        key=opened.key,
        tracking=tracking(_tracking_settings(settings)),
        clock=clock,
    )
    app = FastAPI(
        title="Insitu hub",
        description="Train models where the data is. Only what the data's owner allows leaves.",
        version="1",
        lifespan=_lifespan(parts, opened),
        # Their pages load scripts from elsewhere, which a hub without internet can't.
        docs_url=None,
        redoc_url=None,
        responses={"default": {"model": errors.Problem, "description": "A problem document (RFC 9457)."}},
    )
    app.state.parts = parts
    # Before the routers: the first match wins, and these are the hot ones.
    app.router.routes.extend([*agents.PLAIN_ROUTES, *streams.PLAIN_ROUTES])
    for module in (service, tokens, sites, jobs, models, images, deployments, blobs, wheels, agents):
        app.include_router(module.router)
    app.mount("/mlflow", mlflow_app(parts.tracking, _mlflow_visitors(parts)))
    errors.install(app)
    app.add_middleware(_LastResort)
    return app


class _LastResort:
    """Answers what nobody foresaw with a trace id, as long as nothing was sent yet."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = scope["type"] != "http"

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as exc:
            if begun:
                raise
            await errors.unforeseen(exc)(scope, receive, send)


def _wheel_source(settings: HubSettings) -> WheelSource:
    hosts = PYPI_HOSTS | frozenset(host.lower() for host in settings.package_hosts)
    # An index of the hub's own may keep its files elsewhere: whoever runs the hub named it, and nobody else.
    return WheelSource(
        index_url=settings.index_url,
        hosts=None if settings.index_url else hosts,
        max_bytes=settings.max_blob_bytes,
    )


def _tracking_settings(settings: HubSettings) -> TrackingSettings:
    mlflow = settings.data / "mlflow"
    own = f"sqlite:///{mlflow / 'mlflow.sqlite3'}"
    return TrackingSettings(
        store_uri=settings.sqlalchemy_url if settings.database_url else own, artifacts_dir=mlflow / "artifacts"
    )


def _mlflow_visitors(parts: Parts) -> Authenticate:
    def known(headers: Mapping[str, str]) -> tuple[str, Role] | None:
        try:
            actor = authenticate(parts.store, headers.get("authorization", ""), now=parts.clock())
        except AuthenticationError:
            return None
        return actor.name, actor.role

    return known


def _lifespan(parts: Parts, opened: OpenedFolder):  # noqa: ANN202 - FastAPI's type for it is private
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
        opened.store.listen()
        parts.tracking.start()
        threads = [LoopThread(loop, parts) for loop in _loops(parts.settings)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            parts.bell.close()
            for thread in threads:
                thread.join(_STOP_S)
            # While MLflow is being imported there is nothing of it to close, and waiting for it would take seconds.
            if parts.tracking.ready:
                parts.tracking.close()
            parts.wheels.close()
            opened.close()

    return lifespan


def _loops(settings: HubSettings) -> list[Loop]:
    if not settings.loops:
        return []
    return [place_jobs.LOOP, notice_sites.loop(), write_mlflow.LOOP, build_images.LOOP]
