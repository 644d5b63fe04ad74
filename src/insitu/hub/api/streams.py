"""The waiting side of the API, and so the async one: agents' long polls, and jobs as they happen.

A poll that waits costs a future and a few kilobytes, no thread. It is answered when
something differs from what the agent has acted on; it ends without an answer when
the agent hangs up, so that nothing is handed to a dead connection. Should a reply
be lost all the same, the next report lacks the assignment, and it is offered again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from insitu.domain.errors import InvalidInputError
from insitu.hub.access import JoinedSite
from insitu.hub.actions import agents, follow
from insitu.hub.actions.placing import place_waiting
from insitu.hub.api.bodies import parse, read_document
from insitu.hub.api.caller import parts_of, person_of, site_of
from insitu.hub.parts import Parts
from insitu.hub.store import sites, stream
from insitu.hub.store.session import WriteSession
from insitu.wire.people import JobView
from insitu.wire.sync import SyncRequest

_UNHEARD_S = 0.2
"""How soon an assignment that an agent has been told of, and does not show, is offered again."""
_PING_S = 15.0
_SEEN = frozenset({"log", "metric", "state", "decision"})


async def sync(request: Request) -> Response:
    """An agent tells what is, and hears what should be as soon as that differs."""
    parts = parts_of(request)
    body = await read_document(request, max_bytes=parts.settings.max_body_bytes)
    # A mark before looking: what rings in between is not missed.
    taken = await run_in_threadpool(_take, request, parts, body)
    deadline = time.monotonic() + min(taken.report.wait_s, parts.settings.longest_wait_s)
    mark, answer = taken.mark, taken.answer
    hung_up = asyncio.ensure_future(_until_hung_up(request))
    try:
        while not answer.is_news(taken.report) and not parts.bell.closed:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            wait_s = min(left, _UNHEARD_S) if answer.unacknowledged else left
            found = await _wait(parts, taken, mark, wait_s, hung_up)
            if hung_up.done():
                return Response(status_code=499)  # nobody reads it
            if answer.unacknowledged:
                break
            mark, answer = found or await run_in_threadpool(_look, parts, taken.site, taken.report)
    finally:
        hung_up.cancel()
    return Response(answer.reply.model_dump_json(), media_type="application/json")


@dataclass(frozen=True)
class _Taken:
    site: JoinedSite
    report: SyncRequest
    mark: int
    answer: agents.Answer


def _take(request: Request, parts: Parts, body: bytes) -> _Taken:
    site = site_of(request)
    report = parse(SyncRequest, body)
    agents.check_report(site, report)
    now = parts.clock()
    try:
        with parts.store.write() as session:
            has_room = agents.take_report(site, session, report, parts.key, now=now, away_before=parts.away_before())
    except agents.TwoAgentsError:
        with parts.store.write() as session:
            agents.alarm_two_agents(session, site.name, now=now)
        raise
    if has_room:
        with parts.store.write() as session:
            place_waiting(session, now=now, away_before=parts.away_before())
    return _Taken(site, report, *_look(parts, site, report))


def _look(parts: Parts, site: JoinedSite, report: SyncRequest) -> tuple[int, agents.Answer]:
    mark = parts.bell.mark(sites.topic(site.name))
    with parts.store.read() as session:
        return mark, agents.answer(session, site.name, report)


async def _until_hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _wait(
    parts: Parts, taken: _Taken, mark: int, timeout_s: float, hung_up: asyncio.Future[None]
) -> tuple[int, agents.Answer] | None:
    """Until the site's topic rings; then what whoever rang has looked up for it. None: that is still to be done."""
    topic = sites.topic(taken.site.name)
    rung = parts.bell.errand(topic, mark, lambda: _look(parts, taken.site, taken.report))

    def gone(_: object) -> None:
        _let_go(rung)

    # Not `asyncio.wait`, which wakes a turn of the loop later: then who submitted would be answered before the agent.
    hung_up.add_done_callback(gone)
    timer = asyncio.get_running_loop().call_later(timeout_s, _let_go, rung)
    try:
        return await rung
    finally:
        timer.cancel()
        hung_up.remove_done_callback(gone)
        parts.bell.forget(topic, rung)


def _let_go(waiter: asyncio.Future[Any]) -> None:
    if not waiter.done():
        waiter.set_result(None)


# -- jobs as they happen -----------------------------------------------------------------------------------------------


async def job_events(request: Request) -> Response:
    """A job's lines, metrics, states and decisions as server-sent events, from the start or after `Last-Event-ID`.

    It ends when the job has ended, or is held: nothing happens then until a steward
    decides, and whoever wants to know more connects again after the last id.
    """
    parts = parts_of(request)
    job_id = request.path_params["job_id"]
    cursor = _cursor(request)
    stands = await run_in_threadpool(_check, request, parts, job_id)
    if stands.at_rest and cursor >= stands.cursor:
        return Response(status_code=204)  # which also tells a browser not to connect again
    return followed(parts, job_id, Begun(cursor=cursor))


@dataclass(frozen=True)
class Begun:
    """How a stream of a job's events begins."""

    cursor: int
    """What is later than this has not been told."""
    told: bytes = b""
    """What is told at once, up to the cursor; as it is sent."""
    mark: int | None = None
    """Nothing is later than the cursor before the job's topic rings after this mark. None: look at once."""


def begun_with(parts: Parts, session: WriteSession, job: JobView, *, is_new: bool) -> Begun:
    """The stream of a job that this very session submitted: the job itself, and what there is of it so far."""
    mark = parts.bell.mark(stream.topic(job.id))
    found = stream.after(session, job.id, 0)
    told = b"event: job\ndata: %s\n\n%s" % (job.model_dump_json().encode(), _all_as_sent(found))
    # A new job's topic rings once for the commit that follows. Of an older one others may have told meanwhile.
    return Begun(found[-1].cursor if found else 0, told, mark + 1 if is_new else None)


def followed(parts: Parts, job_id: str, begun: Begun, *, status: int = 200) -> Response:
    """The answer that goes on until the job has ended or is held."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    events = _events(parts, job_id, begun)
    return StreamingResponse(events, status, headers, media_type="text/event-stream")


def _check(request: Request, parts: Parts, job_id: str) -> stream.Stands:
    actor = person_of(request)
    with parts.store.read() as session:
        return follow.where_it_stands(actor, session, job_id)


def _cursor(request: Request) -> int:
    text = request.headers.get("last-event-id") or request.query_params.get("after") or "0"
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise InvalidInputError("Last-Event-ID is not the id of an event", code="bad-cursor")
    return int(text)


async def _events(parts: Parts, job_id: str, begun: Begun) -> AsyncIterator[bytes]:
    # At once, so that proxies and clients know that it is alive.
    yield b"retry: 1000\n\n" + begun.told
    topic, cursor, mark = stream.topic(job_id), begun.cursor, begun.mark
    with parts.store.tails.follow(job_id):
        while not parts.bell.closed:
            if mark is not None and not await _rung(parts, topic, mark):
                yield b": ping\n\n"
            mark = parts.bell.mark(topic)
            fresh = parts.store.tails.starting_at(job_id, cursor + 1)
            if fresh is not None:
                # What else there is, and whether more is to come, is looked up once this is on its way.
                found = list(stream.events_of(fresh))
                cursor = found[-1].cursor
                yield _all_as_sent(found)
            found, stands = await run_in_threadpool(_read, parts, job_id, cursor)
            if found:
                cursor = found[-1].cursor
                yield _all_as_sent(found)
            if cursor < stands.cursor:
                mark = None  # there is more already
            elif stands.at_rest:
                return


def _read(parts: Parts, job_id: str, cursor: int) -> tuple[list[stream.StreamedEvent], stream.Stands]:
    with parts.store.read() as session:
        # In this order: what comes in between is seen the next time round, never skipped.
        stands = follow.stands(session, job_id)
        return stream.after(session, job_id, cursor), stands


async def _rung(parts: Parts, topic: str, mark: int) -> bool:
    rung = parts.bell.future(topic, mark)
    # Over PostgreSQL a notification can be missed while the connection that hears them is made anew.
    timeout_s = 1.0 if parts.store.on_postgres else _PING_S
    timer = asyncio.get_running_loop().call_later(timeout_s, _let_go, rung)
    try:
        await rung
        return parts.bell.mark(topic) != mark
    finally:
        timer.cancel()
        parts.bell.forget(topic, rung)


def _all_as_sent(found: Sequence[stream.StreamedEvent]) -> bytes:
    return b"".join(_as_sent(one) for one in found if one.event["kind"] in _SEEN) or b": -\n\n"


def _as_sent(one: stream.StreamedEvent) -> bytes:
    """One event in the form of the HTML standard, section 9.2 (server-sent events)."""
    event: dict[str, Any] = {**one.event, "seq": one.cursor, "attempt": one.attempt}
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (one.cursor, event.pop("kind").encode(), orjson.dumps(event))


PLAIN_ROUTES = [
    Route("/agent/v1/sync", sync, methods=["POST"]),
    Route("/api/v1/jobs/{job_id}/events", job_events, methods=["GET"]),
]
