"""What agents call: joining, events, blobs, uploads, releases. The long poll is in `streams`.

The hot paths are plain Starlette routes: a body is validated once, by its wire
type, and answered without a model on the way out.
"""

from __future__ import annotations

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from insitu.domain.digests import Digest, parse_digest
from insitu.domain.errors import InvalidInputError
from insitu.hub.access import JoinedSite
from insitu.hub.actions import agents, blobs, cards, releases, sites, wheels
from insitu.hub.api.bodies import parse, read_document
from insitu.hub.api.caller import AgentSite, HubParts, parts_of, route, site_of
from insitu.hub.api.file_bodies import FileBody, take_body
from insitu.hub.blobs import OffsetError
from insitu.hub.parts import Parts
from insitu.wire.envelopes import Envelope
from insitu.wire.events import EventBatch
from insitu.wire.plain_metrics import read_plain_metrics
from insitu.wire.sync import JoinReply, JoinRequest, ReleaseReply

router = APIRouter(prefix="/agent/v1", tags=["agents"])


@router.post("/join", **route("join_site"))
def join_site(parts: HubParts, request: JoinRequest) -> JoinReply:
    return sites.join(parts.store, request, parts.key, now=parts.clock())


@router.post("/releases", **route("admit_release"))
def admit_release(site: AgentSite, parts: HubParts, request: Envelope) -> ReleaseReply:
    return releases.admit_release(parts, site, request)


@router.post("/cards", **route("admit_card"))
def admit_card(site: AgentSite, parts: HubParts, request: Envelope) -> ReleaseReply:
    return cards.admit_card(parts, site, request)


@router.get("/blobs/{digest}", **route("get_site_blob"))
def get_site_blob(site: AgentSite, parts: HubParts, digest: str) -> FileBody:
    """Ranges are answered, so that a broken download goes on where it stopped."""
    with parts.store.read() as session:
        path = wheels.of_site(site, session, parts.wheels, digest)
        if path is None:
            found, in_image = blobs.check_site_can_get(site, session, digest)
            path = parts.images.blob_path(found) if in_image else parts.blobs.path(found)
    return FileBody(path, parse_digest(digest))


# -- events ------------------------------------------------------------------------------------------------------------


async def post_events(request: Request) -> Response:
    """A batch of an attempt's events; answers with the last sequence number that the hub holds."""
    parts = parts_of(request)
    body = await read_document(request, max_bytes=parts.settings.max_body_bytes)
    acknowledged = await run_in_threadpool(_take_events, request, parts, body)
    return Response(b'{"acknowledged":%d}' % acknowledged, media_type="application/json")


def _take_events(request: Request, parts: Parts, body: bytes) -> int:
    site = site_of(request)
    batch = read_plain_metrics(body) or parse(EventBatch, body)
    with parts.store.write() as session:
        return agents.take_events(site, session, batch, now=parts.clock())


# -- uploads in pieces -------------------------------------------------------------------------------------------------


@router.head("/uploads/{digest}", **route("get_upload_offset"))
def get_upload_offset(site: AgentSite, parts: HubParts, digest: str) -> Response:
    """Where an upload stands, in `Upload-Offset`; `Upload-Complete` is ?1 when there is nothing left to send."""
    wanted = parse_digest(digest)
    size = _size_of_whole(parts, site, wanted)
    if size is None and parts.blobs.is_whole(site.name, wanted):
        # All its bytes came, and the hub stopped before it said so.
        size = _complete(parts, site, wanted)
    offset = parts.blobs.offset(site.name, wanted) if size is None else size
    return Response(headers={"Upload-Offset": str(offset), "Upload-Complete": "?0" if size is None else "?1"})


@router.post("/uploads/{digest}", status_code=204, **route("upload_piece"))
async def upload_piece(request: Request, parts: HubParts, digest: str) -> Response:
    """The next piece: `Upload-Offset` says where it goes, `Upload-Length` how long the whole is.

    A piece for another offset changes nothing and is answered with 409 and the
    right offset. With the last byte the digest is checked.
    """
    site = await run_in_threadpool(site_of, request)
    wanted = parse_digest(digest)
    offset, length = _number(request, "upload-offset"), _number(request, "upload-length")
    whole = await run_in_threadpool(_size_of_whole, parts, site, wanted)
    if whole is not None and (offset, length) == (0, whole):
        # Sent a second time from its start: nothing is left to do.
        return _uploaded(whole, complete=True)
    if whole is not None:
        raise OffsetError(whole)
    with parts.blobs.piece(site.name, wanted, offset=offset, length=length) as piece:
        try:
            await take_body(request, piece.write)
        finally:
            await run_in_threadpool(piece.sync)
        if piece.is_last:
            await run_in_threadpool(piece.finish)
    if piece.is_last:
        await run_in_threadpool(_note, parts, site, wanted, piece.offset)
    return _uploaded(piece.offset, complete=piece.is_last)


def _size_of_whole(parts: Parts, site: JoinedSite, digest: Digest) -> int | None:
    with parts.store.read() as session:
        return blobs.size_at_site(site, session, digest)


def _complete(parts: Parts, site: JoinedSite, digest: Digest) -> int:
    size = parts.blobs.complete(site.name, digest)
    _note(parts, site, digest, size)
    return size


def _note(parts: Parts, site: JoinedSite, digest: Digest, size: int) -> None:
    with parts.store.write() as session:
        blobs.note_upload(site, session, digest, size, now=parts.clock())


def _uploaded(offset: int, *, complete: bool) -> Response:
    return Response(
        status_code=204, headers={"Upload-Offset": str(offset), "Upload-Complete": "?1" if complete else "?0"}
    )


def _number(request: Request, name: str) -> int:
    text = request.headers.get(name, "")
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise InvalidInputError(f"the header {name} is not a number of bytes", code="upload-header")
    return int(text)


PLAIN_ROUTES = [Route("/agent/v1/events", post_events, methods=["POST"])]
