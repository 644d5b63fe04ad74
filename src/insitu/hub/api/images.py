"""Images of models."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from insitu.hub.actions import images
from insitu.hub.api.caller import HubParts, Limit, Person, page, route
from insitu.wire.people import ImageRequest, ImageView, Page

router = APIRouter(prefix="/api/v1/images", tags=["images"])


@router.post("", status_code=202, **route("build_image"))
def build_image(actor: Person, parts: HubParts, request: ImageRequest) -> ImageView:
    with parts.store.write() as session:
        return images.build_image(actor, session, request, now=parts.clock())


@router.get("", response_model=Page, **route("list_images"))
def list_images(actor: Person, parts: HubParts, limit: Limit = 100) -> Response:
    with parts.store.read() as session:
        return page(images.list_images(actor, session, limit=limit))


@router.get("/{name}", **route("show_image"))
def show_image(actor: Person, parts: HubParts, name: str) -> ImageView:
    with parts.store.read() as session:
        return images.show_image(actor, session, name)
