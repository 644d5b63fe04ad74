"""Is the hub up, can it work, and which one is it?"""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter
from pydantic import BaseModel

from insitu.hub.actions import service
from insitu.hub.api.caller import HubParts, route
from insitu.wire.sync import PROTOCOL

router = APIRouter(tags=["service"])


class Health(BaseModel):
    status: str = "ok"


class Readiness(BaseModel):
    status: str
    database: str
    tracking: str


class VersionView(BaseModel):
    version: str
    api: str = "v1"
    protocol: int = PROTOCOL


@router.get("/healthz", **route("is_alive"))
def is_alive() -> Health:
    return Health()


@router.get("/readyz", **route("is_ready"))
def is_ready(parts: HubParts) -> Readiness:
    """200 when jobs can be taken; MLflow may still be starting, and nothing waits for it but its own pages."""
    service.check_database(parts.store)
    return Readiness(status="ready", database="ok", tracking="ready" if parts.tracking.ready else "starting")


@router.get("/api/v1/version", **route("show_version"))
def show_version() -> VersionView:
    return VersionView(version=version("insitu"))
