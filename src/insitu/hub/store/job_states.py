"""The only place that changes a job's state: guarded updates along `domain.jobs.TRANSITIONS`.

Each change names the state and the fencing number that it found. Nothing touched
means that somebody was faster: the caller drops what it had, and changes nothing.
Each change also leaves a state event in the job's stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Update, bindparam, select, update

from insitu.domain.jobs import FINAL, TRANSITIONS, JobState, QueueReason, is_final
from insitu.hub.placement import Placed, Waits
from insitu.hub.store import sites, stream
from insitu.hub.store.session import WriteSession
from insitu.hub.store.tables import JobRow, table_of
from insitu.wire.events import StateEvent

RECORDS = "records"
"""The topic of the loop that writes MLflow."""
PLACING = "placing"
"""The topic of the loop that places."""

# Made once, over the plain table: somebody waits for these, and putting a statement together costs more than running it.
_JOBS = table_of(JobRow)
_ASSIGN = (
    update(_JOBS)
    .where(_JOBS.c.id == bindparam("job"), _JOBS.c.state == JobState.QUEUED.value)
    .values(
        state=JobState.ASSIGNED.value,
        site=bindparam("to_site"),
        base=bindparam("on_base"),
        lock=bindparam("by_lock"),
        attempt=_JOBS.c.attempt + 1,
        fence=_JOBS.c.fence + 1,
        acknowledged=False,
        last_seq=0,
        reason={},
        cursor=_JOBS.c.cursor + 1,
    )
    .returning(_JOBS.c.cursor, _JOBS.c.attempt)
)
_EXPLAIN = (
    update(_JOBS)
    .where(_JOBS.c.id == bindparam("job"), _JOBS.c.state == JobState.QUEUED.value)
    .values(reason=bindparam("why", type_=_JOBS.c.reason.type))
)
_UNACKNOWLEDGED = select(_JOBS.c.id, _JOBS.c.attempt, _JOBS.c.fence).where(
    _JOBS.c.site == bindparam("site"),
    _JOBS.c.acknowledged.is_(False),
    _JOBS.c.id.in_(bindparam("held", expanding=True)),
)
_ACKNOWLEDGE = (
    update(_JOBS)
    .where(_JOBS.c.id == bindparam("job"), _JOBS.c.fence == bindparam("at_fence"))
    .values(acknowledged=True)
)


@cache
def _advance(names: tuple[str, ...]) -> Update:
    """Move a job on from a state, if it is still in it, with these columns; the values are `to_<name>`."""
    columns = [_JOBS.c[name] for name in names]
    return (
        update(_JOBS)
        .where(
            _JOBS.c.id == bindparam("job"),
            _JOBS.c.fence == bindparam("at_fence"),
            _JOBS.c.state == bindparam("from_state"),
        )
        .values({column.name: bindparam(f"to_{column.name}", type_=column.type) for column in columns})
    )


@dataclass(frozen=True)
class AttemptHead:
    """Where a job's current attempt stands, and what decides whether more of it is welcome."""

    job_id: str
    site: str | None
    attempt: int
    fence: int
    state: JobState
    last_seq: int
    cursor: int
    retries: int
    cancel_requested: bool


def reachable(before: JobState, after: JobState) -> bool:
    """Whether an attempt can come from one state to the other, in one step or several.

    A site may have passed through states while it was out of reach, or report the
    last of several at once; it never sends a job back to the queue.
    """
    seen, ahead = {before}, [before]
    while ahead:
        for state in TRANSITIONS[ahead.pop()] - seen - {JobState.QUEUED}:
            if state is after:
                return True
            seen.add(state)
            ahead.append(state)
    return False


def announce_accepted(session: WriteSession, job_id: str, *, now: datetime) -> None:
    """The first event of a job's stream, which its row was made for."""
    stream.put(session, job_id, 1, 0, state_event(JobState.QUEUED, now, what="accepted"), now=now)
    session.wake(RECORDS)


def assign(session: WriteSession, placed: Placed, *, lock: str, now: datetime) -> bool:
    """queued → assigned: a new attempt with a new fencing number. False: it is not queued any more.

    Args:
        lock: the job's for the base on which it was placed.
    """
    wanted = {"job": placed.job_id, "to_site": placed.site, "on_base": placed.base, "by_lock": lock}
    changed = session.rows(_ASSIGN, wanted).one_or_none()
    if changed is None:
        return False
    cursor, attempt = changed
    sites.notify(session, placed.site)
    event = state_event(JobState.ASSIGNED, now, what=f"assigned to {placed.site}")
    stream.put(session, placed.job_id, cursor, attempt, {**event, "site": placed.site}, now=now)
    return True


def explain_wait(session: WriteSession, waits: Waits, *, shown: Mapping[str, Any]) -> None:
    """Why a queued job waits, if that is not what is `shown` already. No event: it changes with every report of a site."""
    reason = {"code": waits.reason.name.lower(), "what": waits.what, "hint": waits.hint}
    if reason != shown:
        session.change(_EXPLAIN, {"job": waits.job_id, "why": reason})


def acknowledge(session: WriteSession, site: str, held: Mapping[str, tuple[int, int]]) -> None:
    """Note which assignments the site's report shows: job → (attempt, fence)."""
    if not held:
        return
    rows = session.rows(_UNACKNOWLEDGED, {"site": site, "held": list(held)})
    for job_id, attempt, fence in rows.all():
        if held[job_id] == (attempt, fence):
            session.change(_ACKNOWLEDGE, {"job": job_id, "at_fence": fence})


def cancel_queued(session: WriteSession, job_id: str, *, by: str, now: datetime) -> bool:
    """queued → cancelled: no site has it, so nobody needs to confirm."""
    reason = {"code": "cancelled", "what": f"cancelled by {by} while it waited"}
    changed = session.change(
        update(JobRow)
        .where(JobRow.id == job_id, JobRow.state == JobState.QUEUED.value)
        .values(state=JobState.CANCELLED.value, cancel_requested=True, reason=reason, ended_at=now)
    )
    if changed:
        stream.say(session, job_id, state_event(JobState.CANCELLED, now, **reason), now=now)
        session.wake(RECORDS)
    return bool(changed)


def request_cancel(session: WriteSession, job_id: str) -> bool:
    """Ask the site to stop it; the state changes when the site confirms. False: it has ended, or is queued."""
    site = session.rows(select(JobRow.site).where(JobRow.id == job_id)).scalar_one()
    changed = session.change(
        update(JobRow)
        .where(
            JobRow.id == job_id,
            JobRow.state.not_in([JobState.QUEUED.value, *(state.value for state in FINAL)]),
        )
        .values(cancel_requested=True)
    )
    if changed and site:
        sites.notify(session, site)
        session.wake(stream.topic(job_id))
    return bool(changed)


def advance(
    session: WriteSession, job: AttemptHead, event: StateEvent, *, now: datetime
) -> tuple[JobState, dict[str, Any] | None]:
    """Move an attempt along, as its site reports. Returns the state after, and the event that people see.

    No event: the report changed nothing, because the job is past that state.
    """
    if event.state is JobState.FAILED and reachable(job.state, event.state) and _is_retried(job, event):
        return JobState.QUEUED, _requeue(session, job, event, now)
    if not reachable(job.state, event.state):
        return job.state, None
    values: dict[str, Any] = {"state": event.state.value, "reason": reason_of(event)}
    if event.state is JobState.RUNNING:
        values["started_at"] = event.at
        values["room_bytes"] = event.room_bytes
    if event.failure is not None:
        values["failure"] = event.failure.value
    if is_final(event.state):
        values["ended_at"] = event.at
        session.wake(RECORDS)
    found = {"job": job.job_id, "at_fence": job.fence, "from_state": job.state.value}
    changed = session.change(_advance(tuple(values)), found | {f"to_{name}": value for name, value in values.items()})
    if not changed:
        return job.state, None
    if event.state in {JobState.JUDGING, JobState.HELD} or is_final(event.state):
        session.wake(PLACING)  # room may have become free
    return event.state, event.model_dump(mode="json", exclude={"seq"})


def _is_retried(job: AttemptHead, event: StateEvent) -> bool:
    # A policy that said no would say no again.
    again = event.failure is None or event.failure.value != "policy"
    return again and not job.cancel_requested and job.retries > job.attempt - 1


def _requeue(session: WriteSession, job: AttemptHead, event: StateEvent, now: datetime) -> dict[str, Any]:
    failed = f"attempt {job.attempt} failed ({event.failure or 'unknown'}): {event.what}"[:500]
    reason = {"code": QueueReason.RETRYING.name.lower(), "what": failed, "hint": event.hint}
    session.change(
        update(JobRow)
        .where(JobRow.id == job.job_id, JobRow.fence == job.fence, JobRow.state == job.state.value)
        # The fence grows at once: whatever else this attempt sends is of the past.
        .values(
            state=JobState.QUEUED.value,
            site=None,
            fence=JobRow.fence + 1,
            reason=reason,
            acknowledged=False,
            last_seq=0,
        )
    )
    session.wake(PLACING)
    return state_event(JobState.QUEUED, now, **reason)


def reason_of(event: StateEvent) -> dict[str, str]:
    fields = ("code", "what", "rule", "measure", "limit", "hint")
    return {name: getattr(event, name) for name in fields if getattr(event, name)}


def state_event(state: JobState, now: datetime, *, code: str = "", what: str = "", hint: str = "") -> dict[str, Any]:
    """An event that the hub itself adds to a job's stream."""
    event = StateEvent(seq=1, at=now, state=state, code=code, what=what, hint=hint)
    return event.model_dump(mode="json", exclude={"seq"})
