"""Registered models, their labels and their files."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from insitu.hub.actions import models, releases
from insitu.hub.api.caller import HubParts, Person, Version, page, route
from insitu.hub.api.file_bodies import FileBody
from insitu.wire.envelopes import Envelope
from insitu.wire.people import AliasRequest, ModelVersionView, Page, TagRequest

router = APIRouter(prefix="/api/v1/models", tags=["models"])


@router.get("", response_model=Page, **route("list_models"))
def list_models(actor: Person, parts: HubParts) -> Response:
    return page(models.list_models(actor, parts))


@router.get("/{name}", response_model=Page, **route("list_model_versions"))
def list_model_versions(actor: Person, parts: HubParts, name: str) -> Response:
    return page(models.list_versions(actor, parts, name))


@router.get("/{name}/versions/{version}", **route("show_model_version"))
def show_model_version(actor: Person, parts: HubParts, name: str, version: Version) -> ModelVersionView:
    return models.show_version(actor, parts, name, version)


@router.put("/{name}/versions/{version}/tags", **route("tag_model_version"))
def tag_model_version(
    actor: Person, parts: HubParts, name: str, version: Version, request: TagRequest
) -> ModelVersionView:
    return models.tag_version(actor, parts, name, version, request)


@router.put("/{name}/aliases", **route("set_model_alias"))
def set_model_alias(actor: Person, parts: HubParts, name: str, request: AliasRequest) -> ModelVersionView:
    return models.set_alias(actor, parts, name, request)


@router.get("/{name}/versions/{version}/statement", **route("get_model_statement"))
def get_model_statement(actor: Person, parts: HubParts, name: str, version: Version) -> Envelope:
    return models.statement_of(actor, parts, name, version)


@router.get("/{name}/versions/{version}/files", response_model=Page, **route("list_model_files"))
def list_model_files(actor: Person, parts: HubParts, name: str, version: Version) -> Response:
    return page(models.files_of(actor, parts, name, version))


@router.get("/{name}/versions/{version}/files/{path:path}", **route("get_model_file"))
def get_model_file(actor: Person, parts: HubParts, name: str, version: Version, path: str) -> FileBody:
    digest = releases.file_among(models.files_of(actor, parts, name, version), path)
    return FileBody(parts.blobs.path(digest), digest)
