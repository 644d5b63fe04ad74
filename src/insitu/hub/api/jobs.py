"""Jobs: in, out, and what became of them. Their live events are in `streams`.

Submitting is a hot path: its answer is what somebody waits for before anything
runs. So it is described as the others are, and answered by a plain function in
one step of one thread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

import orjson
from fastapi import APIRouter, Query
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from insitu.domain.errors import InvalidInputError
from insitu.domain.jobs import JobState
from insitu.domain.outputs import Verdict
from insitu.hub.actions import jobs, releases
from insitu.hub.api import streams
from insitu.hub.api.bodies import parse, read_document
from insitu.hub.api.caller import MAX_INT, HubParts, Limit, Person, page, parts_of, person_of, route
from insitu.hub.api.file_bodies import FileBody
from insitu.hub.parts import Parts
from insitu.hub.store.session import WriteSession
from insitu.wire.people import JobRequest, JobView, MeterView, Page

router = APIRouter(prefix="/api/v1", tags=["jobs"])

_SHOWN = (Verdict.HELD, Verdict.RELEASED, Verdict.REFUSED, Verdict.RESIDENT)


async def submit_job(request: Request) -> Response:
    parts = parts_of(request)
    body = await read_document(request, max_bytes=parts.settings.max_body_bytes)
    return await run_in_threadpool(_submit, request, parts, body)


def _submit(request: Request, parts: Parts, body: bytes) -> Response:
    actor = person_of(request)
    asked = parse(JobRequest, body)
    now, away_before = parts.clock(), parts.away_before()
    with parts.store.write() as session:
        job_id, is_new = jobs.submit_job(actor, session, asked, now=now, away_before=away_before)
        # Here, and not after the commit: from then on an agent has been woken, and this would be in its way.
        view = jobs.show_job(actor, session, job_id, away_before=away_before)
        return _answer(request, parts, session, view, is_new=is_new)


def _answer(request: Request, parts: Parts, session: WriteSession, job: JobView, *, is_new: bool) -> Response:
    """The job, or for whoever accepts a stream the job and then what becomes of it, without asking again."""
    status = 201 if is_new else 200
    if "text/event-stream" in request.headers.get("accept", ""):
        return streams.followed(parts, job.id, streams.begun_with(parts, session, job, is_new=is_new), status=status)
    return Response(job.model_dump_json(), status, media_type="application/json")


class _SubmitRoute(APIRoute):
    """Described by a signature, answered by `submit_job`."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override] - a coroutine is one
        return submit_job


def _as_described(request: JobRequest) -> JobView:
    """Submit a signed job. The same envelope again is the same job.

    With `Accept: text/event-stream` the answer is a stream: the job as event `job`, then what
    `/api/v1/jobs/{job_id}/events` tells of it, until it has ended or is held.
    """
    raise NotImplementedError


router.add_api_route(
    "/jobs",
    _as_described,
    methods=["POST"],
    status_code=201,
    responses={status: {"content": {"text/event-stream": {}}} for status in (200, 201)},
    summary="Submit Job",
    route_class_override=_SubmitRoute,
    **route("submit_job"),
)


@router.get("/jobs", response_model=Page, **route("list_jobs"))
def list_jobs(
    actor: Person,
    parts: HubParts,
    state: Annotated[list[JobState] | None, Query()] = None,
    limit: Limit = 100,
    after: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    if after and not after.isdecimal():
        raise InvalidInputError("`after` is what a page before gave as `next`", code="bad-cursor")
    with parts.store.read() as session:
        found, next_ = jobs.list_jobs(
            actor,
            session,
            states=state or [],
            limit=limit,
            before=int(after) if after else None,
            away_before=parts.away_before(),
        )
    return page(found, next_)


@router.get("/jobs/{job_id}", **route("show_job"))
def show_job(actor: Person, parts: HubParts, job_id: str) -> JobView:
    with parts.store.read() as session:
        return jobs.show_job(actor, session, job_id, away_before=parts.away_before())


@router.post("/jobs/{job_id}/cancel", **route("cancel_job"))
def cancel_job(actor: Person, parts: HubParts, job_id: str) -> JobView:
    with parts.store.write() as session:
        return jobs.cancel_job(actor, session, job_id, now=parts.clock(), away_before=parts.away_before())


@router.get("/jobs/{job_id}/logs", response_model=Page, **route("read_job_logs"))
def read_job_logs(
    actor: Person,
    parts: HubParts,
    job_id: str,
    after: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=100_000)] = 10_000,
) -> Response:
    with parts.store.read() as session:
        lines = jobs.read_logs(actor, session, job_id, after=after, limit=limit)
    return page(lines, str(lines[-1].seq) if len(lines) == limit else "")


@router.get("/jobs/{job_id}/metrics", response_model=Page, **route("read_job_metrics"))
def read_job_metrics(actor: Person, parts: HubParts, job_id: str, key: str | None = None) -> Response:
    with parts.store.read() as session:
        found = jobs.read_metrics(actor, session, job_id, key=key)
    return Response(orjson.dumps({"items": found, "next": ""}), media_type="application/json")


@router.get("/jobs/{job_id}/egress", response_model=Page, **route("read_job_egress"))
def read_job_egress(actor: Person, parts: HubParts, job_id: str) -> Response:
    with parts.store.read() as session:
        return page(jobs.read_egress(actor, session, job_id))


@router.get("/jobs/{job_id}/meter", **route("read_job_meter"))
def read_job_meter(actor: Person, parts: HubParts, job_id: str) -> MeterView:
    with parts.store.read() as session:
        return jobs.read_meter(actor, session, job_id)


@router.get("/jobs/{job_id}/outputs/{output}/files", response_model=Page, **route("list_output_files"))
def list_output_files(actor: Person, parts: HubParts, job_id: str, output: str) -> Response:
    with parts.store.read() as session:
        return page(releases.released_files(actor, session, job_id, output))


@router.get("/jobs/{job_id}/outputs/{output}/files/{path:path}", **route("get_output_file"))
def get_output_file(actor: Person, parts: HubParts, job_id: str, output: str, path: str) -> FileBody:
    with parts.store.read() as session:
        files = releases.released_files(actor, session, job_id, output)
    digest = releases.file_among(files, path)
    return FileBody(parts.blobs.path(digest), digest)


@router.get("/releases", response_model=Page, **route("list_releases"))
def list_releases(
    actor: Person,
    parts: HubParts,
    verdict: Annotated[list[Verdict] | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_INT)] = 200,
) -> Response:
    with parts.store.read() as session:
        return page(releases.list_releases(actor, session, verdicts=tuple(verdict or _SHOWN), limit=min(limit, 1000)))
