"""Sites, and the datasets that they offer."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from insitu.hub.actions import sites
from insitu.hub.api.caller import MAX_INT, HubParts, Person, page, route
from insitu.wire.people import NewSite, Page, SitePolicyView, SiteRequest, SiteView

router = APIRouter(prefix="/api/v1", tags=["sites"])

AskedVersion = Annotated[int | None, Query(ge=1, le=MAX_INT)]
AskedSite = Annotated[str | None, Query(max_length=64)]


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


@router.get("/sites/{name}/policy", **route("show_site_policy"))
def show_site_policy(actor: Person, parts: HubParts, name: str) -> SitePolicyView:
    with parts.store.read() as session:
        return sites.show_policy(actor, session, name, away_before=parts.away_before())


@router.get("/datasets", response_model=Page, **route("list_datasets"))
def list_datasets(actor: Person, parts: HubParts) -> Response:
    with parts.store.read() as session:
        return page(sites.list_datasets(actor, session))


@router.get("/datasets/{name}/croissant", **route("describe_dataset"))
def describe_dataset(
    actor: Person, parts: HubParts, request: Request, name: str, version: AskedVersion = None, site: AskedSite = None
) -> JSONResponse:
    hub = str(request.base_url).rstrip("/")
    with parts.store.read() as session:
        found = sites.describe_dataset(actor, session, name, version=version, site=site, hub=hub)
    return JSONResponse(found, media_type="application/ld+json")
