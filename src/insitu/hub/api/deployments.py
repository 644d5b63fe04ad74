"""Deployments."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from insitu.hub.actions import deployments
from insitu.hub.api.caller import HubParts, Person, page, route
from insitu.wire.people import DeploymentRequest, DeploymentView, Page

router = APIRouter(prefix="/api/v1/deployments", tags=["deployments"])


@router.post("", status_code=201, **route("put_deployment"))
def put_deployment(actor: Person, parts: HubParts, request: DeploymentRequest) -> DeploymentView:
    with parts.store.write() as session:
        return deployments.put_deployment(actor, session, request, now=parts.clock(), away_before=parts.away_before())


@router.get("", response_model=Page, **route("list_deployments"))
def list_deployments(actor: Person, parts: HubParts, *, deleted: bool = True) -> Response:
    """All of them, with `deleted` on those that should be no more: their revisions are never given again."""
    with parts.store.read() as session:
        return page(deployments.list_deployments(actor, session, deleted=deleted, away_before=parts.away_before()))


@router.get("/{name}", **route("show_deployment"))
def show_deployment(actor: Person, parts: HubParts, name: str) -> DeploymentView:
    with parts.store.read() as session:
        return deployments.show_deployment(actor, session, name, away_before=parts.away_before())


@router.delete("/{name}", **route("delete_deployment"))
def delete_deployment(actor: Person, parts: HubParts, name: str) -> DeploymentView:
    with parts.store.write() as session:
        return deployments.delete_deployment(actor, session, name, away_before=parts.away_before())
