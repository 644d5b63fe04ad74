"""What attempts tell, batch by batch: idempotent by sequence number, read by cursor.

A batch that came before adds nothing; one that leaves a gap adds nothing and is
told where to go on; one of an older attempt is refused and changes nothing. The
stored payload is the batch as it was validated: one row for up to a thousand
events, because the cost of an event is the cost of a row.

What people see of it is the job's stream, in `stream`. Numbers that JSON has no word
for (NaN and the infinities) are stored as strings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any

import orjson
from pydantic import TypeAdapter
from sqlalchemy import Insert, bindparam, insert, select, update

from insitu.domain.errors import ConflictError, DeniedError, NotFoundError
from insitu.domain.jobs import JobState
from insitu.hub.store import job_states, outputs, stream
from insitu.hub.store.job_states import AttemptHead
from insitu.hub.store.session import ReadSession, WriteSession, insert_into
from insitu.hub.store.tables import JobEventsRow, JobKeptRow, JobRow, JobValueRow, table_of
from insitu.hub.store.tails import StoredBatch
from insitu.wire.events import (
    LOCAL_RUN,
    DecisionEvent,
    Event,
    EventBatch,
    KeptEvent,
    LogEvent,
    MetricEvent,
    ParamEvent,
    StateEvent,
    TagEvent,
    channel_of,
)
from insitu.wire.plain_metrics import PlainMetrics

_EVENTS = TypeAdapter(list[Event])

# Made once: putting such a statement together costs more than running it, and this is the hub's hottest path.
_JOBS = table_of(JobRow)
_HEAD = (
    select(
        _JOBS.c.id,
        _JOBS.c.site,
        _JOBS.c.attempt,
        _JOBS.c.fence,
        _JOBS.c.state,
        _JOBS.c.last_seq,
        _JOBS.c.cursor,
        _JOBS.c.retries,
        _JOBS.c.cancel_requested,
    )
    .where(_JOBS.c.id == bindparam("job"))
    .with_for_update()
)
_MOVE = (
    update(_JOBS)
    .where(_JOBS.c.id == bindparam("job"))
    .values(
        last_seq=bindparam("to_seq"),
        cursor=bindparam("to_cursor"),
        egress_bytes=_JOBS.c.egress_bytes + bindparam("more"),
    )
)
_KEEP = insert(table_of(JobEventsRow))


@cache
def _put_value(*, on_postgres: bool) -> Insert:
    put = insert_into(JobValueRow, on_postgres=on_postgres)
    changes = {"number": put.excluded.number, "text": put.excluded.text}
    return put.on_conflict_do_update(index_elements=["job_id", "kind", "key"], set_=changes)


@cache
def _count(*, on_postgres: bool) -> Insert:
    put = insert_into(JobKeptRow, on_postgres=on_postgres)
    total = {"count": JobKeptRow.count + put.excluded.count}
    return put.on_conflict_do_update(index_elements=["job_id", "what"], set_=total)


def append(session: WriteSession, site: str, batch: EventBatch | PlainMetrics, *, now: datetime) -> int:
    """Keep what is new in a batch; returns the last sequence number that is held.

    Raises:
        NotFoundError: there is no such job at this site.
        ConflictError: the attempt is not the current one any more.
    """
    head = _current_head(session, site, batch)
    if isinstance(batch, PlainMetrics):
        # Numbered without a gap, so what is new begins at a known place.
        more = batch.events[max(0, head.last_seq + 1 - batch.events[0]["seq"]) :]
        if not more or more[0]["seq"] != head.last_seq + 1:
            return head.last_seq
        last_seq = more[-1]["seq"]
        state, shown = head.state, _apply_metrics(session, head, more)
    else:
        fresh = _fresh(batch.events, head.last_seq)
        if not fresh:
            return head.last_seq
        last_seq = fresh[-1].seq
        state, shown = _apply(session, head, fresh, now)
    # A failed attempt that is tried again took the job to its next fence: what is left here is of the past.
    requeued = state is JobState.QUEUED
    _keep(session, head, shown, batch, now)
    moved = {
        "job": head.job_id,
        "to_seq": 0 if requeued else last_seq,
        "to_cursor": head.cursor + shown.count,
        "more": batch.size_bytes,
    }
    session.change(_MOVE, moved)
    session.wake(stream.topic(head.job_id))
    return last_seq


@dataclass(frozen=True)
class _Shown:
    """What of a batch goes into the job's stream."""

    payload: bytes
    count: int
    kinds: str


def _head(session: ReadSession, job_id: str) -> AttemptHead | None:
    row = session.rows(_HEAD, {"job": job_id}).one_or_none()
    return None if row is None else AttemptHead(row[0], row[1], row[2], row[3], JobState(row[4]), *row[5:])


def _current_head(session: ReadSession, site: str, batch: EventBatch | PlainMetrics) -> AttemptHead:
    head = _head(session, batch.job_id)
    if head is None:
        raise NotFoundError(f"there is no job {batch.job_id[:40]!r}", code="no-such-job")
    if head.fence > batch.fence or head.attempt > batch.attempt:
        raise ConflictError(
            f"attempt {batch.attempt} of {head.job_id} is over",
            code="fenced",
            why="another attempt was given out since",
            hint="drop what this attempt still has; nothing is to be done",
            rule="fence",
            measure=str(batch.fence),
            limit=str(head.fence),
        )
    if head.site != site or (head.attempt, head.fence) != (batch.attempt, batch.fence):
        raise DeniedError(f"{batch.job_id} is not this site's", code="not-your-job", rule="site")
    return head


def _fresh(events: Sequence[Event], held: int) -> Sequence[Event]:
    """The part of a batch that follows on what is held, without a gap before or inside."""
    start = next((index for index, event in enumerate(events) if event.seq > held), len(events))
    if start == len(events) or events[start].seq != held + 1:
        return []
    end = start + 1
    while end < len(events) and events[end].seq == events[end - 1].seq + 1:
        end += 1
    return events[start:end]


def _apply_metrics(session: WriteSession, head: AttemptHead, events: Sequence[dict[str, Any]]) -> _Shown:
    """As `_apply`, of events that were validated as documents and are stored as such."""
    own = {event["key"]: (event["value"], None) for event in events if event["run"] == LOCAL_RUN}
    _keep_values(session, head.job_id, own, {})
    return _Shown(orjson.dumps(events), len(events), ",metric,")


def _apply(session: WriteSession, head: AttemptHead, events: Sequence[Event], now: datetime) -> tuple[JobState, _Shown]:
    """Let each event have its effect; collect what people see."""
    numbers: dict[str, tuple[float | None, str | None]] = {}
    words: dict[tuple[str, str], str] = {}
    kept: dict[str, int] = {}
    kinds: set[str] = set()
    plain = True  # whether what is stored is exactly what came
    others: list[tuple[int, StateEvent | DecisionEvent]] = []
    for index, event in enumerate(events):
        kinds.add(event.kind)
        if isinstance(event, MetricEvent):
            finite = math.isfinite(event.value)
            plain = plain and finite
            if event.run == LOCAL_RUN:
                numbers[event.key] = (event.value, None) if finite else (None, str(event.value))
        elif isinstance(event, LogEvent):
            if event.stream == "site":
                kinds.add("note")
        elif isinstance(event, ParamEvent | TagEvent):
            if event.run == LOCAL_RUN:
                words[event.kind, event.key] = event.value
        elif isinstance(event, KeptEvent):
            kept[event.what] = kept.get(event.what, 0) + event.count
        elif isinstance(event, StateEvent | DecisionEvent):
            others.append((index, event))
    _keep_values(session, head.job_id, numbers, words)
    _count_kept(session, head.job_id, kept)
    state, replaced = _apply_states(session, head, others, now)
    if plain and not replaced:
        return state, _Shown(_EVENTS.dump_json(list(events)), len(events), f",{','.join(sorted(kinds))},")
    return state, _rewritten(events, replaced)


def _apply_states(
    session: WriteSession, head: AttemptHead, events: list[tuple[int, StateEvent | DecisionEvent]], now: datetime
) -> tuple[JobState, dict[int, dict[str, Any] | None]]:
    """States and decisions have effects in order. Returns which state events people see otherwise than they came."""
    replaced: dict[int, dict[str, Any] | None] = {}
    state = head.state
    for index, event in events:
        if isinstance(event, DecisionEvent):
            outputs.decide(session, head.job_id, head.attempt, event)
            continue
        after, shown = job_states.advance(session, replace(head, state=state), event, now=now)
        if shown is None or after is not event.state:
            replaced[index] = shown
        state = after
        if state is JobState.QUEUED:
            break
    return state, replaced


def _rewritten(events: Sequence[Event], replaced: dict[int, dict[str, Any] | None]) -> _Shown:
    """The rare batch that is not stored as it came."""
    shown: list[dict[str, Any]] = []
    for index, event in enumerate(events):
        item = replaced[index] if index in replaced else event.model_dump(mode="json")
        if item is None:
            continue
        if isinstance(event, MetricEvent) and not math.isfinite(event.value):
            item["value"] = str(event.value)
        shown.append(item)
    kinds = sorted({item["kind"] for item in shown} | {channel_of(item) for item in shown})
    return _Shown(orjson.dumps(shown), len(shown), f",{','.join(kinds)},")


def _keep(
    session: WriteSession, head: AttemptHead, shown: _Shown, batch: EventBatch | PlainMetrics, now: datetime
) -> None:
    if shown.count == 0:
        return
    session.change(
        _KEEP,
        {
            "job_id": head.job_id,
            "first_cursor": head.cursor + 1,
            "last_cursor": head.cursor + shown.count,
            "attempt": head.attempt,
            "kinds": shown.kinds,
            "payload": shown.payload,
            "entry": batch.entry,
            "size_bytes": batch.size_bytes,
            "received_at": now,
        },
    )
    session.tail(head.job_id, StoredBatch(head.cursor + 1, head.attempt, shown.payload))


def _keep_values(
    session: WriteSession,
    job_id: str,
    numbers: Mapping[str, tuple[float | None, str | None]],
    words: Mapping[tuple[str, str], str],
) -> None:
    rows: list[dict[str, Any]] = [
        {"job_id": job_id, "kind": "metric", "key": key, "number": number, "text": text}
        for key, (number, text) in numbers.items()
    ]
    rows += [
        {"job_id": job_id, "kind": kind, "key": key, "number": None, "text": value}
        for (kind, key), value in words.items()
    ]
    if rows:
        session.change(_put_value(on_postgres=session.on_postgres), rows)


def _count_kept(session: WriteSession, job_id: str, kept: dict[str, int]) -> None:
    rows = [{"job_id": job_id, "what": what, "count": count} for what, count in kept.items()]
    if rows:
        session.change(_count(on_postgres=session.on_postgres), rows)
