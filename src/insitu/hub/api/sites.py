"""Sites, and the datasets that they offer."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from insitu.hub.actions import sites
from insitu.hub.api.caller import HubParts, Person, page, route
from insitu.wire.people import NewSite, Page, SiteRequest, SiteView

router = APIRouter(prefix="/api/v1", tags=["sites"])


@router.post("/sites", status_code=201, **route("create_site"))
def create_site(actor: Person, parts: HubParts, request: SiteRequest) -> NewSite:
    with parts.store.write() as session:
        return sites.create_site(actor, session, request, now=parts.clock(), valid_for=parts.settings.join_token_for)


@router.get("/sites", response_model=Page, **route("list_sites"))
def list_sites(actor: Person, parts: HubParts) -> Response:
    with parts.store.read() as session:
        return page(sites.list_sites(actor, session, away_before=parts.away_before()))


@router.get("/sites/{name}", **route("show_site"))
def show_site(actor: Person, parts: HubParts, name: str) -> SiteView:
    with parts.store.read() as session:
        return sites.show_site(actor, session, name, away_before=parts.away_before())


@router.post("/sites/{name}/join-token", status_code=201, **route("new_join_token"))
def new_join_token(actor: Person, parts: HubParts, name: str) -> NewSite:
    with parts.store.write() as session:
        return sites.new_join_token(actor, session, name, now=parts.clock(), valid_for=parts.settings.join_token_for)


@router.delete("/sites/{name}/alarm", **route("clear_alarm"))
def clear_alarm(actor: Person, parts: HubParts, name: str) -> SiteView:
    with parts.store.write() as session:
        return sites.clear_alarm(actor, session, name, away_before=parts.away_before())


@router.get("/datasets", response_model=Page, **route("list_datasets"))
def list_datasets(actor: Person, parts: HubParts) -> Response:
    with parts.store.read() as session:
        return page(sites.list_datasets(actor, session))
