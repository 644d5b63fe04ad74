"""Tokens, and who one is."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from insitu.hub.actions import people
from insitu.hub.api.caller import HubParts, Person, page, route
from insitu.wire.people import KeyRequest, NewToken, Page, TokenRequest, WhoAmI

router = APIRouter(prefix="/api/v1", tags=["people"])


@router.get("/whoami", **route("who_am_i"))
def who_am_i(actor: Person) -> WhoAmI:
    return people.who_am_i(actor)


@router.put("/me/key", **route("set_key"))
def set_key(actor: Person, parts: HubParts, request: KeyRequest) -> WhoAmI:
    with parts.store.write() as session:
        return people.set_key(actor, session, request)


@router.post("/tokens", status_code=201, **route("create_token"))
def create_token(actor: Person, parts: HubParts, request: TokenRequest) -> NewToken:
    with parts.store.write() as session:
        return people.create_token(actor, session, request, now=parts.clock())


@router.get("/tokens", response_model=Page, **route("list_tokens"))
def list_tokens(actor: Person, parts: HubParts) -> Response:
    with parts.store.read() as session:
        return page(people.list_tokens(actor, session))


@router.delete("/tokens/{token_id}", status_code=204, **route("revoke_token"))
def revoke_token(actor: Person, parts: HubParts, token_id: str) -> None:
    with parts.store.write() as session:
        people.revoke_token(actor, session, token_id, now=parts.clock())
