"""Code and locks of jobs, by digest."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from insitu.domain.digests import Digest, parse_digest
from insitu.hub.access import Actor
from insitu.hub.actions import blobs
from insitu.hub.api.caller import HubParts, Person, person_of, route
from insitu.hub.api.file_bodies import FileBody, take_body
from insitu.hub.parts import Parts

router = APIRouter(prefix="/api/v1/blobs", tags=["blobs"])


@router.head("/{digest}", **route("has_blob"))
def has_blob(actor: Person, parts: HubParts, digest: str) -> Response:
    with parts.store.read() as session:
        size = blobs.size_of_own(actor, session, digest)
    return Response(headers={"Blob-Size": str(size)})


@router.get("/{digest}", **route("get_blob"))
def get_blob(actor: Person, parts: HubParts, digest: str) -> FileBody:
    with parts.store.read() as session:
        found = blobs.check_can_get(actor, session, digest)
    return FileBody(parts.blobs.path(found), found)


@router.put("/{digest}", status_code=201, **route("put_blob"))
async def put_blob(request: Request, parts: HubParts, digest: str) -> Response:
    """Upload a blob. Its digest is checked, and nothing is kept when it is another."""
    actor = await run_in_threadpool(_check, request)
    wanted = parse_digest(digest)
    with parts.blobs.incoming(wanted) as incoming:
        await take_body(request, incoming.write)
        await run_in_threadpool(incoming.finish)
    await run_in_threadpool(_note, parts, actor, wanted, incoming.size_bytes)
    return JSONResponse({"digest": digest, "size_bytes": incoming.size_bytes}, status_code=201)


def _check(request: Request) -> Actor:
    """Before the first byte of the body: a stranger fills no disk."""
    actor = person_of(request)
    blobs.check_can_put(actor)
    return actor


def _note(parts: Parts, actor: Actor, digest: Digest, size_bytes: int) -> None:
    with parts.store.write() as session:
        blobs.note_put(actor, session, digest, size_bytes, now=parts.clock())
