"""Jobs as they were accepted, and as people see them. What changes a job's state is in `job_states`."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, bindparam, insert, select

from insitu.domain.jobs import FINAL, JobState, QueueReason
from insitu.hub.placement import WaitingJob
from insitu.hub.store import outputs
from insitu.hub.store.session import ReadSession, WriteSession
from insitu.hub.store.tables import JobKeptRow, JobRow, JobValueRow, SiteRow, table_of
from insitu.wire.envelopes import Envelope
from insitu.wire.job_file import JobFile, Labels
from insitu.wire.jobs import JobDocument
from insitu.wire.people import JobView, Reason
from insitu.wire.sync import Assignment

_FINAL = [state.value for state in FINAL]


@dataclass(frozen=True)
class AcceptedJob:
    """A job whose signature was checked against the key that its submitter registered."""

    envelope: Envelope
    document: JobDocument
    job: JobFile
    signer: str


@dataclass(frozen=True)
class JobFacts:
    """Of a stored job: what the rules for cancelling, releasing and fetching ask for."""

    id: str
    submitter: str
    state: JobState
    site: str | None
    attempt: int
    fence: int
    code: str
    base: str
    lock: str
    run_id: str
    experiment: str
    datasets: tuple[Mapping[str, Any], ...]
    outputs: Mapping[str, Any]


# Made once, over plain tables: somebody waits for these, and putting a statement together costs more than running it.
_JOBS, _SITES = table_of(JobRow), table_of(SiteRow)
_ADD = insert(_JOBS)
_EARLIER = select(_JOBS.c.id, _JOBS.c.envelope_digest).where(
    (_JOBS.c.envelope_digest == bindparam("digest")) | (_JOBS.c.nonce == bindparam("nonce"))
)


def add(session: WriteSession, accepted: AcceptedJob, *, cursor: int, now: datetime) -> str:
    """Put a job in the queue. `cursor`: how many events its stream is about to begin with."""
    document, job = accepted.document, accepted.job
    job_id = "j-" + secrets.token_hex(6)
    values: dict[str, Any] = {
        "id": job_id,
        "envelope": accepted.envelope.model_dump(mode="json"),
        "envelope_digest": accepted.envelope.digest,
        "nonce": document.nonce,
        "submitter": document.submitter,
        "signer": accepted.signer,
        "name": job.display_name,
        "experiment": job.experiment_name,
        "tags": job.tags,
        "outputs": {
            out.name: {"type": out.type.value, "register": out.register, "max_bytes": out.max_bytes}
            for out in job.contract.outputs
        },
        "code": document.code,
        "targets": [target.model_dump() for target in document.targets],
        "datasets": [pin.model_dump() for pin in document.datasets],
        "compute": json.dumps(job.compute.labels) if isinstance(job.compute, Labels) else job.compute,
        "cpus": job.resources.cpus,
        "memory_bytes": job.resources.memory,
        "retries": job.retries,
        "state": JobState.QUEUED.value,
        "reason": {"code": QueueReason.PLACING.name.lower(), "what": QueueReason.PLACING.value},
        "created_at": now,
        "cursor": cursor,
    }
    session.change(_ADD, values)
    return job_id


def earlier(session: ReadSession, digest: str, nonce: str) -> tuple[str | None, bool]:
    """The id of the job that this very envelope made, and whether any job used the nonce."""
    found = session.rows(_EARLIER, {"digest": digest, "nonce": nonce}).all()
    return next((row.id for row in found if row.envelope_digest == digest), None), bool(found)


def facts(session: ReadSession, job_id: str) -> JobFacts | None:
    row = session.rows(
        select(
            JobRow.id,
            JobRow.submitter,
            JobRow.state,
            JobRow.site,
            JobRow.attempt,
            JobRow.fence,
            JobRow.code,
            JobRow.base,
            JobRow.lock,
            JobRow.run_id,
            JobRow.experiment,
            JobRow.datasets,
            JobRow.outputs,
        ).where(JobRow.id == job_id)
    ).one_or_none()
    if row is None:
        return None
    return JobFacts(
        id=row.id,
        submitter=row.submitter,
        state=JobState(row.state),
        site=row.site,
        attempt=row.attempt,
        fence=row.fence,
        code=row.code,
        base=row.base,
        lock=row.lock,
        run_id=row.run_id,
        experiment=row.experiment,
        datasets=tuple(row.datasets),
        outputs=row.outputs,
    )


def any_waiting(session: ReadSession) -> bool:
    return session.rows(select(JobRow.id).where(JobRow.state == JobState.QUEUED.value).limit(1)).first() is not None


_WAITING = (
    select(
        _JOBS.c.id,
        _JOBS.c.targets,
        _JOBS.c.datasets,
        _JOBS.c.compute,
        _JOBS.c.cpus,
        _JOBS.c.memory_bytes,
        _JOBS.c.reason,
    )
    .where(_JOBS.c.state == JobState.QUEUED.value)
    .order_by(_JOBS.c.number)
)


@dataclass(frozen=True)
class Queued:
    """A job in the queue."""

    job: WaitingJob
    shown: Mapping[str, Any]
    """The reason that is shown of it."""
    locks: Mapping[str, str]
    """Base → the lock for it."""


def waiting(session: ReadSession) -> list[Queued]:
    """The queue in the order of acceptance."""
    return [Queued(_waiting_job(row), row.reason, _locks(row.targets)) for row in session.rows(_WAITING)]


def _locks(targets: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    # The first of a base counts, as it does at the site.
    return {target["base"]: target["lock"] for target in reversed(targets)}


def _waiting_job(row: Row[*tuple[Any, ...]]) -> WaitingJob:
    return WaitingJob(
        id=row.id,
        bases=tuple(target["base"] for target in row.targets),
        datasets=frozenset((pin["name"], pin["version"], pin["digest"]) for pin in row.datasets),
        # No site's name begins with a brace, so labels lie in the same column.
        compute=json.loads(row.compute) if (row.compute or "").startswith("{") else row.compute,
        cpus=row.cpus,
        memory_bytes=row.memory_bytes,
    )


def names_blob(session: ReadSession, digest: str) -> bool:
    """Whether a job names it as its code or as one of its locks."""
    query = select(JobRow.id).where((JobRow.code == digest) | (JobRow.lock == digest)).limit(1)
    return session.rows(query).first() is not None


def site_may_fetch(session: ReadSession, site: str, digest: str) -> bool:
    """Whether a job that this site has now names the blob."""
    query = select(JobRow.id).where(
        JobRow.site == site, JobRow.state.not_in(_FINAL), (JobRow.code == digest) | (JobRow.lock == digest)
    )
    return session.rows(query.limit(1)).first() is not None or digest in _parts_of_images(session, site)


def image_of(session: ReadSession, job_id: str) -> str:
    """The digest of the image that a job ran in; empty: it had packages of a lock."""
    query = select(JobRow.targets, JobRow.base).where(JobRow.id == job_id)
    signed = [target for row in session.rows(query) for target in row.targets if target["base"] == row.base]
    return next((target["image"]["digest"] for target in signed if target.get("image")), "")


def _parts_of_images(session: ReadSession, site: str) -> set[str]:
    """What the images consist of that this site's present jobs bring."""
    query = select(JobRow.targets, JobRow.base).where(JobRow.site == site, JobRow.state.not_in(_FINAL))
    signed = [target for row in session.rows(query) for target in row.targets if target["base"] == row.base]
    images = [target["image"] for target in signed if target.get("image")]
    return {part for image in images for part in (image["digest"], *image["blobs"])}


def locks_of_site(session: ReadSession, site: str) -> list[str]:
    """The locks of the jobs that this site has now."""
    query = select(JobRow.lock).where(JobRow.site == site, JobRow.state.not_in(_FINAL), JobRow.lock != "").distinct()
    return list(session.rows(query).scalars())


# -- for the agent -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Assigned:
    assignment: Assignment
    acknowledged: bool


# Made once: every report of every agent asks for it.
_ASSIGNED = (
    select(
        _JOBS.c.id,
        _JOBS.c.attempt,
        _JOBS.c.fence,
        _JOBS.c.envelope,
        _JOBS.c.cancel_requested,
        _JOBS.c.acknowledged,
    )
    .where(_JOBS.c.site == bindparam("site"), _JOBS.c.state.not_in([*_FINAL, JobState.QUEUED.value]))
    .order_by(_JOBS.c.number)
)


def assigned(session: ReadSession, site: str) -> list[Assigned]:
    """Everything that the site should have, in the order of acceptance."""
    rows = session.rows(_ASSIGNED, {"site": site})
    return [
        Assigned(
            Assignment(
                job_id=row.id,
                attempt=row.attempt,
                fence=row.fence,
                envelope=Envelope.model_validate(row.envelope),
                cancel=row.cancel_requested,
            ),
            row.acknowledged,
        )
        for row in rows
    ]


# -- for people --------------------------------------------------------------------------------------------------------


_VIEWED = select(
    _JOBS.c.number,
    _JOBS.c.id,
    _JOBS.c.name,
    _JOBS.c.state,
    _JOBS.c.reason,
    _JOBS.c.site,
    _JOBS.c.attempt,
    _JOBS.c.fence,
    _JOBS.c.last_seq,
    _JOBS.c.submitter,
    _JOBS.c.experiment,
    _JOBS.c.run_id,
    _JOBS.c.datasets,
    _JOBS.c.code,
    _JOBS.c.lock,
    _JOBS.c.base,
    _JOBS.c.failure,
    _JOBS.c.cancel_requested,
    _JOBS.c.created_at,
    _JOBS.c.started_at,
    _JOBS.c.ended_at,
    _JOBS.c.tags,
    _JOBS.c.egress_bytes,
    _SITES.c.last_seen_at.label("site_seen_at"),
).outerjoin_from(_JOBS, _SITES, _SITES.c.name == _JOBS.c.site)
_VIEW = _VIEWED.where(_JOBS.c.id == bindparam("job"))


def view(session: ReadSession, job_id: str, *, away_before: datetime) -> JobView | None:
    found = _views(session, _VIEW, {"job": job_id}, away_before)
    return found[0][1] if found else None


def page(
    session: ReadSession, *, states: Sequence[JobState], limit: int, before: int | None, away_before: datetime
) -> tuple[list[JobView], str]:
    """Newest first; the second value asks for the page after this one, empty when there is none."""
    query = _VIEWED.order_by(_JOBS.c.number.desc()).limit(limit)
    if states:
        query = query.where(_JOBS.c.state.in_([state.value for state in states]))
    if before is not None:
        query = query.where(_JOBS.c.number < before)
    found = _views(session, query, {}, away_before)
    return [job for _, job in found], str(found[-1][0]) if len(found) == limit else ""


def _views(
    session: ReadSession, query: Select[*tuple[Any, ...]], parameters: Mapping[str, Any], away_before: datetime
) -> list[tuple[int, JobView]]:
    rows = session.rows(query, parameters).all()
    # A job that no site has told of yet, as each is when it is submitted, has nothing in the other tables.
    ids = [row.id for row in rows if row.last_seq > 0 or row.fence > 1]
    values = _values(session, ids) if ids else {}
    kept = _kept(session, ids) if ids else {}
    decided = outputs.of_jobs(session, ids) if ids else {}
    views: list[tuple[int, JobView]] = []
    for row in rows:
        silent = row.site_seen_at is None or row.site_seen_at <= away_before
        away = row.site is not None and row.state not in _FINAL and silent
        view = _view(row, values.get(row.id, {}), link="away" if away else "")
        changes = {"kept": kept.get(row.id, {}), "outputs": decided.get(row.id, [])}
        views.append((row.number, view.model_copy(update=changes)))
    return views


def _view(row: Row[*tuple[Any, ...]], values: Mapping[str, Mapping[str, Any]], *, link: str) -> JobView:
    return JobView(
        id=row.id,
        name=row.name,
        state=JobState(row.state),
        reason=Reason.model_validate(row.reason),
        link=link,
        site=row.site or "",
        attempt=row.attempt,
        submitter=row.submitter,
        experiment=row.experiment,
        run_id=row.run_id,
        datasets=[f"{pin['name']}@{pin['version']}" for pin in row.datasets],
        code=row.code,
        lock=row.lock,
        base=row.base,
        failure=row.failure,
        cancel_requested=row.cancel_requested,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        metrics=dict(values.get("metric", {})),
        params=dict(values.get("param", {})),
        tags={**row.tags, **values.get("tag", {})},
        egress_bytes=row.egress_bytes,
    )


def _values(session: ReadSession, ids: list[str]) -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for job_id, kind, key, number, words in session.rows(
        select(JobValueRow.job_id, JobValueRow.kind, JobValueRow.key, JobValueRow.number, JobValueRow.text).where(
            JobValueRow.job_id.in_(ids)
        )
    ):
        value: Any = words if kind != "metric" else float(words or "nan") if number is None else number
        found.setdefault(job_id, {}).setdefault(kind, {})[key] = value
    return found


def _kept(session: ReadSession, ids: list[str]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    query = select(JobKeptRow.job_id, JobKeptRow.what, JobKeptRow.count).where(JobKeptRow.job_id.in_(ids))
    for job_id, what, count in session.rows(query):
        found.setdefault(job_id, {})[what] = count
    return found
