"""Who is calling, and the parts of the hub, as FastAPI hands them to an endpoint."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import Depends, Path, Query
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from insitu.hub.access import Actor, JoinedSite
from insitu.hub.actions import agents, people
from insitu.hub.parts import Parts

MAX_INT = 2**31 - 1  # of an integer column


def parts_of(request: Request) -> Parts:
    return request.app.state.parts


def person_of(request: Request) -> Actor:
    """The person whose token the request carries.

    Raises:
        AuthenticationError: nobody's.
    """
    parts = parts_of(request)
    return people.authenticate(parts.store, request.headers.get("authorization", ""), now=parts.clock())


def site_of(request: Request) -> JoinedSite:
    """The site whose agent signed the request's token.

    Raises:
        AuthenticationError: nobody's.
    """
    parts = parts_of(request)
    return agents.authenticate(parts.store, request.headers.get("authorization", ""), now=parts.clock())


HubParts = Annotated[Parts, Depends(parts_of)]
Person = Annotated[Actor, Depends(person_of)]
AgentSite = Annotated[JoinedSite, Depends(site_of)]
Version = Annotated[int, Path(ge=1, le=MAX_INT)]
Limit = Annotated[int, Query(ge=1, le=1000)]


def page(items: Iterable[BaseModel], next_: str = "") -> Response:
    """A `Page`. Written item by item, so that numbers which JSON lacks travel as the views say."""
    body = ",".join(item.model_dump_json() for item in items)
    return Response(f'{{"items":[{body}],"next":{_quoted(next_)}}}', media_type="application/json")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def route(name: str, **more: Any) -> dict[str, Any]:
    """What every endpoint says of itself: a stable operation id, and that errors are problem documents."""
    return {"operation_id": name, "name": name, **more}
