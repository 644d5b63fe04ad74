"""Wheels: what agents ask before they fetch, and what an admin brings to a hub without internet."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import BinaryIO

import anyio
from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from insitu.domain.digests import parse_digest
from insitu.domain.errors import InvalidInputError
from insitu.domain.images import LockedWheel
from insitu.hub.access import Actor, JoinedSite
from insitu.hub.actions import wheels
from insitu.hub.api.caller import AgentSite, HubParts, Person, person_of, route
from insitu.hub.api.file_bodies import take_body
from insitu.hub.parts import Parts
from insitu.images.locks import is_wheel_filename
from insitu.wire.wheels import StoredWheel, WheelHashes, WheelsReply, WheelsRequest

router = APIRouter(tags=["wheels"])

_LOOK_AGAIN_S = 0.1


@router.post("/agent/v1/wheels", **route("ask_for_wheels"))
async def ask_for_wheels(site: AgentSite, parts: HubParts, wanted: WheelsRequest) -> WheelsReply:
    """How it stands with wheels of a lock; the hub fetches what it lacks, and answers early when all is said."""
    found = await run_in_threadpool(_allowed, site, parts, wanted)
    end = time.monotonic() + wanted.wait_s
    while True:
        reply = await run_in_threadpool(wheels.standing, parts.wheels, found)
        if not reply.coming or reply.failed or time.monotonic() >= end or parts.bell.closed:
            return reply
        await anyio.sleep(_LOOK_AGAIN_S)


def _allowed(site: JoinedSite, parts: Parts, wanted: WheelsRequest) -> list[LockedWheel]:
    with parts.store.read() as session:
        return wheels.check_site_may_have(site, session, parts.wheels, wanted)


@router.post("/api/v1/wheels/lacking", **route("lacking_wheels"))
def lacking_wheels(actor: Person, parts: HubParts, given: WheelHashes) -> WheelHashes:
    """Which of these the hub has not: what is worth uploading."""
    return WheelHashes(sha256s=wheels.lacking(actor, parts.wheels, given.sha256s))


@router.put("/api/v1/wheels/{sha256}/{filename}", status_code=201, **route("bring_wheel"))
async def bring_wheel(request: Request, parts: HubParts, sha256: str, filename: str) -> StoredWheel:
    """Bring a wheel to the hub. Its hash is checked, and nothing is kept when it is another."""
    actor = await run_in_threadpool(_check, request)
    wheel = _wheel(sha256, filename)
    path = parts.wheels.store.room(wheel)
    try:
        with path.open("wb") as stream:
            write = _bounded(stream, parts.settings.max_blob_bytes)
            await take_body(request, write)
        return await run_in_threadpool(wheels.bring, actor, parts.wheels, wheel, path)
    finally:
        path.unlink(missing_ok=True)


def _bounded(stream: BinaryIO, max_bytes: int) -> Callable[[bytes], object]:
    def write(data: bytes) -> None:
        if stream.tell() + len(data) > max_bytes:
            raise InvalidInputError("the wheel is too large", code="blob-too-large", limit=f"{max_bytes} bytes")
        stream.write(data)

    return write


def _check(request: Request) -> Actor:
    """Before the first byte of the body: a stranger fills no disk."""
    actor = person_of(request)
    wheels.check_can_bring(actor)
    return actor


def _wheel(sha256: str, filename: str) -> LockedWheel:
    if not is_wheel_filename(filename):
        raise InvalidInputError(f"{filename[:120]!r} is not a wheel's name", code="wheel-name")
    return LockedWheel(filename, parse_digest(f"sha256:{sha256}").removeprefix("sha256:"))
