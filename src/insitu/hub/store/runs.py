"""What MLflow has been told of each job, and what it is still to be told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select, update

from insitu.domain.jobs import FINAL, JobState, is_final
from insitu.hub.store.session import ReadSession, WriteSession
from insitu.hub.store.tables import JobRow, JobRunRow

_FINAL = [state.value for state in FINAL]


@dataclass(frozen=True)
class Unrecorded:
    """A job of which MLflow lacks something."""

    job_id: str
    run_id: str
    name: str
    experiment: str
    tags: dict[str, Any]
    submitter: str
    state: JobState
    attempt: int
    cursor: int
    recorded: int
    created_at: datetime

    @property
    def ended(self) -> bool:
        return is_final(self.state)


_COLUMNS = (
    JobRow.id,
    JobRow.run_id,
    JobRow.name,
    JobRow.experiment,
    JobRow.tags,
    JobRow.submitter,
    JobRow.state,
    JobRow.attempt,
    JobRow.cursor,
    JobRow.recorded,
    JobRow.created_at,
)


def unrecorded(session: ReadSession, *, limit: int) -> list[Unrecorded]:
    """Jobs without a run first: their links should work from the first second."""
    rows = session.rows(
        select(*_COLUMNS)
        .where(JobRow.closed.is_(False))
        .where(or_(JobRow.run_id == "", JobRow.recorded < JobRow.cursor, JobRow.state.in_(_FINAL)))
        .order_by(JobRow.run_id != "", JobRow.number)
        .limit(limit)
    )
    return [Unrecorded(*row[:6], JobState(row[6]), *row[7:]) for row in rows]


def of_job(session: ReadSession, job_id: str) -> Unrecorded | None:
    row = session.rows(select(*_COLUMNS).where(JobRow.id == job_id)).one_or_none()
    return None if row is None else Unrecorded(*row[:6], JobState(row[6]), *row[7:])


def set_run(session: WriteSession, job_id: str, run_id: str) -> None:
    session.change(update(JobRow).where(JobRow.id == job_id, JobRow.run_id == "").values(run_id=run_id))


def note_recorded(session: WriteSession, job_id: str, *, before: int, after: int) -> bool:
    """Move the mark of what MLflow has. False: another process moved it, and has written the same."""
    changed = session.change(
        update(JobRow).where(JobRow.id == job_id, JobRow.recorded == before).values(recorded=after)
    )
    return bool(changed)


def note_closed(session: WriteSession, job_id: str) -> None:
    session.change(update(JobRow).where(JobRow.id == job_id).values(closed=True))


def child_runs(session: ReadSession, job_id: str, attempt: int) -> dict[str, str]:
    """The gate's id of each run that the script started → MLflow's."""
    rows = session.rows(
        select(JobRunRow.local, JobRunRow.run_id).where(JobRunRow.job_id == job_id, JobRunRow.attempt == attempt)
    )
    return dict(rows.all())


def add_child_run(session: WriteSession, job_id: str, attempt: int, local: str, run_id: str) -> None:
    insert = session.insert(JobRunRow).values(job_id=job_id, attempt=attempt, local=local, run_id=run_id)
    session.change(insert.on_conflict_do_nothing())
