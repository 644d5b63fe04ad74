"""A job's stream: its events over all attempts, numbered without gaps.

The number is the cursor: the id of a server-sent event, and what `after=` names.
Reading is by batch, since that is how events are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

import orjson
from sqlalchemy import bindparam, insert, select, update

from insitu.domain.jobs import JobState, is_final
from insitu.hub.store.session import ReadSession, WriteSession
from insitu.hub.store.tables import JobEventsRow, JobRow, table_of
from insitu.hub.store.tails import StoredBatch
from insitu.wire.people import EgressItem, LogLine, MetricPoint

_BY_THE_HUB = -1


def topic(job_id: str) -> str:
    """What followers of a job's stream wait for."""
    return f"job:{job_id}"


# Made once, over plain tables: whoever follows a job asks for these all the time.
_JOBS, _EVENTS = table_of(JobRow), table_of(JobEventsRow)
_PUT = insert(_EVENTS)
_NEXT = (
    update(_JOBS)
    .where(_JOBS.c.id == bindparam("job"))
    .values(cursor=_JOBS.c.cursor + 1)
    .returning(_JOBS.c.cursor, _JOBS.c.attempt)
)
_AFTER = (
    select(_EVENTS.c.first_cursor, _EVENTS.c.attempt, _EVENTS.c.payload)
    .where(_EVENTS.c.job_id == bindparam("job"), _EVENTS.c.last_cursor > bindparam("after"))
    .order_by(_EVENTS.c.first_cursor)
    .limit(bindparam("batches"))
)
_STANDS = select(_JOBS.c.cursor, _JOBS.c.state).where(_JOBS.c.id == bindparam("job"))


def say(session: WriteSession, job_id: str, event: dict[str, Any], *, now: datetime) -> None:
    """Add an event of the hub's own to a job's stream."""
    cursor, attempt = session.rows(_NEXT, {"job": job_id}).one()
    put(session, job_id, cursor, attempt, event, now=now)


def put(session: WriteSession, job_id: str, cursor: int, attempt: int, event: dict[str, Any], *, now: datetime) -> None:
    """Put an event of the hub's own where the job's row says, since this very transaction, that its stream ends."""
    session.change(
        _PUT,
        {
            "job_id": job_id,
            "first_cursor": cursor,
            "last_cursor": cursor,
            "attempt": attempt,
            "kinds": f",{event['kind']},",
            "payload": orjson.dumps([event]),
            "entry": _BY_THE_HUB,
            "size_bytes": 0,
            "received_at": now,
        },
    )
    session.wake(topic(job_id))


class StreamedEvent(NamedTuple):
    """One event of a job's stream. Made by the thousand, so a tuple."""

    cursor: int
    attempt: int
    event: dict[str, Any]


def after(
    session: ReadSession,
    job_id: str,
    cursor: int,
    *,
    kinds: Sequence[str] = (),
    batches: int = 50,
    most: int | None = None,
) -> list[StreamedEvent]:
    """The next events of a job after a cursor, oldest first; of some kinds only when `kinds` names them.

    At most `batches` are looked at, and at most `most` events returned: what is beyond them is not even decoded.
    """
    query = _AFTER.where(_EVENTS.c.kinds.contains(f",{kinds[0]},")) if len(kinds) == 1 else _AFTER
    rows = session.rows(query, {"job": job_id, "after": cursor, "batches": batches})
    found = (
        one
        for row in rows
        for one in events_of(StoredBatch(*row))
        if one.cursor > cursor and (not kinds or one.event["kind"] in kinds)
    )
    return list(islice(found, most))


def events_of(batch: StoredBatch) -> Iterator[StreamedEvent]:
    """The events of one row."""
    first, attempt, payload = batch
    return (StreamedEvent(number, attempt, event) for number, event in enumerate(orjson.loads(payload), first))


def run_event(session: ReadSession, job_id: str, attempt: int, local: str) -> dict[str, Any] | None:
    """The event by which an attempt's script started a run of its own."""
    for found in _all(session, job_id, 0, "run"):
        if found.attempt == attempt and found.event["run"] == local:
            return found.event
    return None


@dataclass(frozen=True)
class Stands:
    """How far a job's stream goes, and whether anything more is about to come."""

    cursor: int
    at_rest: bool  # it has ended, or waits for a steward


def stands(session: ReadSession, job_id: str) -> Stands | None:
    row = session.rows(_STANDS, {"job": job_id}).one_or_none()
    if row is None:
        return None
    state = JobState(row[1])
    return Stands(row[0], is_final(state) or state is JobState.HELD)


def logs(session: ReadSession, job_id: str, *, after_cursor: int, limit: int) -> list[LogLine]:
    lines = (
        LogLine(
            seq=found.cursor,
            attempt=found.attempt,
            stream=found.event["stream"],
            text=found.event["text"],
            at=found.event["at"],
        )
        for found in _all(session, job_id, after_cursor, "log")
    )
    return [line for line, _ in zip(lines, range(limit), strict=False)]


def metrics(session: ReadSession, job_id: str, *, key: str | None) -> list[dict[str, Any]]:
    """Every point, as the fields of a `MetricPoint`. Plain, since there may be a million: as values they'd take minutes."""
    fields = tuple(MetricPoint.model_fields)
    return [
        {name: found.event[name] for name in fields}
        for found in _all(session, job_id, 0, "metric")
        if key is None or found.event["key"] == key
    ]


def egress(session: ReadSession, job_id: str) -> list[EgressItem]:
    """The batches that a site sent for a job; what it released as files is in `outputs.egress`."""
    rows = session.rows(
        select(JobEventsRow.kinds, JobEventsRow.size_bytes, JobEventsRow.entry)
        .where(JobEventsRow.job_id == job_id, JobEventsRow.entry != _BY_THE_HUB)
        .order_by(JobEventsRow.first_cursor)
    )
    return [
        EgressItem(
            kind="events",
            name=row.kinds.strip(","),
            size_bytes=row.size_bytes,
            decision="released",
            rule="declared",
            entry=row.entry,
        )
        for row in rows
    ]


def _all(session: ReadSession, job_id: str, cursor: int, kind: str) -> Iterator[StreamedEvent]:
    while found := after(session, job_id, cursor, kinds=[kind]):
        yield from found
        cursor = found[-1].cursor
