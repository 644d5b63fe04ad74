"""What became of a job's outputs: decisions as the site reported them, and what was admitted."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, update

from insitu.domain.jobs import JobState
from insitu.domain.outputs import Verdict
from insitu.hub.store.session import ReadSession, WriteSession
from insitu.hub.store.tables import JobOutputRow, JobRow, ReleaseRow
from insitu.wire.cards import CardDocument, VerifiedCard
from insitu.wire.envelopes import Envelope
from insitu.wire.events import DecisionEvent
from insitu.wire.people import EgressItem, OutputView, ReleaseView
from insitu.wire.releases import ReleasedFile, ReleaseDocument, VerifiedRelease

_DECISION_FIELDS = {
    "rule", "measure", "limit", "hint", "review", "reason", "findings", "not_checked", "size_bytes", "digest",
}  # fmt: skip


@dataclass(frozen=True)
class AdmittedRelease:
    """A release in the store: verified, its files present, and perhaps a model version by now.

    Of a resident model there is the card alone, and no file.
    """

    id: str
    job_id: str
    site: str
    output: str
    type: str
    register_as: str | None
    digest: str
    files: tuple[ReleasedFile, ...]
    size_bytes: int
    code: str
    lock: str
    base: str
    datasets: dict[str, str]
    policy_version: int
    rule: str
    reviewer: str
    entry: int
    admitted_at: datetime
    model_version: int | None
    is_resident: bool
    left_bytes: int  # the files; or the card


def decide(session: WriteSession, job_id: str, attempt: int, event: DecisionEvent) -> None:
    """Keep the newest decision on an output; a held one may get a second, later."""
    values: dict[str, Any] = {
        "attempt": attempt,
        "verdict": event.verdict.value,
        "decision": event.model_dump(mode="json", include=_DECISION_FIELDS),
        "decided_at": event.at,
    }
    insert = session.insert(JobOutputRow).values(job_id=job_id, name=event.output, **values)
    session.change(insert.on_conflict_do_update(index_elements=["job_id", "name"], set_=values))


def of_jobs(session: ReadSession, ids: Sequence[str]) -> dict[str, list[OutputView]]:
    versions = {
        (row.job_id, row.output, row.digest): (row.register_as or "", row.model_version)
        for row in session.rows(
            select(
                ReleaseRow.job_id,
                ReleaseRow.output,
                ReleaseRow.digest,
                ReleaseRow.register_as,
                ReleaseRow.model_version,
            ).where(ReleaseRow.job_id.in_(ids))
        )
    }
    found: dict[str, list[OutputView]] = {}
    rows = session.rows(select(JobOutputRow).where(JobOutputRow.job_id.in_(ids)).order_by(JobOutputRow.name)).scalars()
    for row in rows:
        model, version = versions.get((row.job_id, row.name, row.decision.get("digest", "")), ("", None))
        view = OutputView(name=row.name, verdict=row.verdict, model=model, model_version=version, **row.decision)
        found.setdefault(row.job_id, []).append(view)
    return found


def held_and_released(session: ReadSession, *, verdicts: Sequence[Verdict], limit: int) -> list[ReleaseView]:
    """Newest first: outputs by what became of them, without those that were only kept."""
    rows = session.rows(
        select(JobOutputRow, JobRow.site, JobRow.state, JobRow.name, JobRow.submitter)
        .join(JobRow, JobRow.id == JobOutputRow.job_id)
        .where(JobOutputRow.verdict.in_([verdict.value for verdict in verdicts]))
        .order_by(JobOutputRow.decided_at.desc(), JobOutputRow.job_id, JobOutputRow.name)
        .limit(limit)
    ).all()
    by_job = of_jobs(session, [row[0].job_id for row in rows])
    views: list[ReleaseView] = []
    for row, site, state, job_name, submitter in rows:
        view = next(output for output in by_job[row.job_id] if output.name == row.name)
        views.append(
            ReleaseView(
                job_id=row.job_id,
                job_name=job_name,
                job_state=JobState(state),
                site=site or "",
                submitter=submitter,
                decided_at=row.decided_at,
                output=view,
            )
        )
    return views


# -- what was admitted -------------------------------------------------------------------------------------------------


def admit(session: WriteSession, release: VerifiedRelease, site: str, *, now: datetime) -> AdmittedRelease:
    """Keep a verified release, once: the same one again gives what is there."""
    size = sum(file.size_bytes for file in release.document.files)
    files = [file.model_dump() for file in release.document.files]
    document, envelope = release.document, release.envelope
    return _admit(session, document, envelope, site, now=now, files=files, size_bytes=size, left_bytes=size)


def admit_card(session: WriteSession, card: VerifiedCard, site: str, *, now: datetime) -> AdmittedRelease:
    """Keep a verified card, once: the same one again gives what is there."""
    document, envelope = card.document, card.envelope
    left = _payload_bytes(envelope.payload)
    return _admit(session, document, envelope, site, now=now, files=[], size_bytes=document.size_bytes, left_bytes=left)


def _payload_bytes(base64_text: str) -> int:
    return len(base64_text.rstrip("=")) * 3 // 4


def _admit(
    session: WriteSession,
    document: ReleaseDocument | CardDocument,
    envelope: Envelope,
    site: str,
    *,
    now: datetime,
    files: list[dict[str, Any]],
    size_bytes: int,
    left_bytes: int,
) -> AdmittedRelease:
    insert = session.insert(ReleaseRow).values(
        id="r-" + secrets.token_hex(6),
        job_id=document.job_id,
        attempt=document.attempt,
        site=site,
        output=document.output,
        type=document.type.value,
        register_as=document.register_as,
        digest=document.digest,
        files=files,
        size_bytes=size_bytes,
        code=document.code,
        lock=document.lock,
        base=document.base,
        datasets=document.datasets,
        policy_version=document.policy_version,
        rule=document.rule,
        reviewer=document.reviewer,
        entry=document.entry,
        envelope=envelope.model_dump(mode="json"),
        admitted_at=now,
        resident=not files,
    )
    added = session.change(insert.on_conflict_do_nothing(index_elements=["job_id", "output", "digest"]))
    if added:
        session.change(
            update(JobRow).where(JobRow.id == document.job_id).values(egress_bytes=JobRow.egress_bytes + left_bytes)
        )
    row = session.rows(
        select(ReleaseRow).where(
            ReleaseRow.job_id == document.job_id,
            ReleaseRow.output == document.output,
            ReleaseRow.digest == document.digest,
        )
    ).scalar_one()
    return _admitted(row)


def set_model_version(session: WriteSession, release_id: str, version: int) -> bool:
    """Note the version that MLflow gave, once. False: it had one."""
    changed = session.change(
        update(ReleaseRow)
        .where(ReleaseRow.id == release_id, ReleaseRow.model_version.is_(None))
        .values(model_version=version)
    )
    return bool(changed)


def unregistered(session: ReadSession) -> list[AdmittedRelease]:
    """Releases that should be a model version and are none yet."""
    rows = session.rows(
        select(ReleaseRow)
        .where(ReleaseRow.register_as.is_not(None), ReleaseRow.model_version.is_(None))
        .order_by(ReleaseRow.number)
    ).scalars()
    return [_admitted(row) for row in rows]


def of_model(session: ReadSession, name: str, version: int) -> AdmittedRelease | None:
    row = session.rows(
        select(ReleaseRow).where(ReleaseRow.register_as == name, ReleaseRow.model_version == version)
    ).scalar_one_or_none()
    return None if row is None else _admitted(row)


def envelope_of_model(session: ReadSession, name: str, version: int) -> Envelope | None:
    """What the site signed of a model version."""
    query = select(ReleaseRow.envelope).where(ReleaseRow.register_as == name, ReleaseRow.model_version == version)
    found = session.rows(query).scalar_one_or_none()
    return None if found is None else Envelope.model_validate(found)


def of_job(session: ReadSession, job_id: str, output: str | None = None) -> list[AdmittedRelease]:
    """Newest first."""
    query = select(ReleaseRow).where(ReleaseRow.job_id == job_id).order_by(ReleaseRow.number.desc())
    if output is not None:
        query = query.where(ReleaseRow.output == output)
    return [_admitted(row) for row in session.rows(query).scalars()]


def of_digest(session: ReadSession, digest: str) -> list[AdmittedRelease]:
    rows = session.rows(select(ReleaseRow).where(ReleaseRow.digest == digest)).scalars()
    return [_admitted(row) for row in rows]


def egress(session: ReadSession, job_id: str) -> list[EgressItem]:
    return [
        EgressItem(
            kind="card" if release.is_resident else "model" if release.register_as else "files",
            name=release.output,
            size_bytes=release.left_bytes,
            decision="resident" if release.is_resident else "released",
            rule=release.rule,
            entry=release.entry,
        )
        for release in reversed(of_job(session, job_id))
    ]


def _admitted(row: ReleaseRow) -> AdmittedRelease:
    return AdmittedRelease(
        id=row.id,
        job_id=row.job_id,
        site=row.site,
        output=row.output,
        type=row.type,
        register_as=row.register_as,
        digest=row.digest,
        files=tuple(ReleasedFile.model_validate(file) for file in row.files),
        size_bytes=row.size_bytes,
        code=row.code,
        lock=row.lock,
        base=row.base,
        datasets=row.datasets,
        policy_version=row.policy_version,
        rule=row.rule,
        reviewer=row.reviewer,
        entry=row.entry,
        admitted_at=row.admitted_at,
        model_version=row.model_version,
        is_resident=row.resident,
        left_bytes=_payload_bytes(row.envelope["payload"]) if row.resident else row.size_bytes,
    )
