"""Jobs: submitting, looking, cancelling."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from insitu.domain.errors import ConflictError, DeniedError, NotFoundError, SignatureError
from insitu.domain.jobs import JobState, is_final
from insitu.hub.access import Actor, Permission, check_can, check_can_cancel
from insitu.hub.actions.placing import place_waiting
from insitu.hub.store import blobs, egress, job_states, jobs, outputs, stream
from insitu.hub.store.session import ReadSession, WriteSession
from insitu.wire.envelopes import Envelope, Verified, open_envelope, signer_of
from insitu.wire.job_file import parse_job_document
from insitu.wire.jobs import JOB_TYPE, check_fresh, read_job_document
from insitu.wire.people import EgressItem, JobRequest, JobView, LogLine, MeterView


class MissingBlobsError(ConflictError):
    """Code or locks that the job names have not been uploaded by its submitter."""

    default_code = "missing-blobs"

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(
            f"{len(missing)} blob(s) that the job names are not at the hub",
            why="code and locks are uploaded by whoever submits",
            hint="upload what `missing` lists to /api/v1/blobs/<digest>, then post the same job again",
        )
        self.missing = list(missing)


def submit_job(
    actor: Actor, session: WriteSession, request: JobRequest, *, now: datetime, away_before: datetime
) -> tuple[str, bool]:
    """Accept a signed job and try to place it at once. Returns its id, and whether it is new.

    The same envelope again is the same job, so a client may repeat what it got no
    answer to.

    Raises:
        DeniedError: their role, key or name does not fit, or the document expired.
        MissingBlobsError: code or locks are not here yet.
        ConflictError: another envelope used the nonce.
    """
    # 1. May this person submit at all?
    check_can(actor, Permission.SUBMIT)
    # 2. Did they sign it, with the key that they registered? Nothing is read before that is settled.
    accepted = _open(actor, request.envelope)
    # 3. The same again: the same job.
    document = accepted.document
    known, nonce_is_used = jobs.earlier(session, request.envelope.digest, document.nonce)
    if known is not None:
        return known, False
    check_fresh(document.signed_at, document.expires_at, now=now)
    if nonce_is_used:
        raise ConflictError("another job used this nonce", code="nonce-used", hint="sign the job again", rule="nonce")
    # 4. Everything that a site will ask for is here.
    parts = {part for target in document.targets if target.image for part in (target.image.digest, *target.image.blobs)}
    named = {document.code, *(target.lock for target in document.targets), *parts}
    missing = sorted(named - blobs.held_by(session, blobs.person(actor.name), named).keys())
    if missing:
        raise MissingBlobsError(missing)
    # 5. In the queue, and out of it if a site has room: one transaction, so a waiting agent wakes now.
    job_id = jobs.add(session, accepted, cursor=1, now=now)
    job_states.announce_accepted(session, job_id, now=now)
    place_waiting(session, now=now, away_before=away_before)
    return job_id, True


def _open(actor: Actor, envelope: Envelope) -> jobs.AcceptedJob:
    verified = open_signed_by(actor, envelope, JOB_TYPE)
    document = read_job_document(verified.payload)
    check_named(actor, document.submitter)
    return jobs.AcceptedJob(envelope, document, parse_job_document(document.job), verified.signer)


def open_signed_by(actor: Actor, envelope: Envelope, payload_type: str) -> Verified:
    """What `actor` signed with the key that they registered.

    Raises:
        DeniedError: they registered none, or another key signed.
        SignatureError: the bytes were altered, or it is of another type.
    """
    if not actor.fingerprint:
        raise DeniedError(
            f"{actor.name} has registered no key",
            code="no-key",
            hint="run `insitu login`, which makes and registers one",
        )
    try:
        return open_envelope(envelope, payload_type, {actor.fingerprint})
    except SignatureError as exc:
        signer = signer_of(envelope).fingerprint
        if signer == actor.fingerprint:
            raise
        raise DeniedError(
            f"this was not signed by {actor.name}",
            code="not-your-signature",
            why=f"the key that {actor.name} registered is another one",
            hint="sign it with your own key; `insitu login` registers the one on this machine",
            rule="signer",
            measure=signer,
            limit=actor.fingerprint,
        ) from exc


def check_named(actor: Actor, submitter: str) -> None:
    if submitter != actor.name:
        raise DeniedError(
            "the signed document names another submitter",
            code="not-your-name",
            rule="submitter",
            measure=submitter,
            limit=actor.name,
            hint="sign it under the name that `insitu whoami` shows",
        )


def list_jobs(
    actor: Actor,
    session: ReadSession,
    *,
    states: Sequence[JobState],
    limit: int,
    before: int | None,
    away_before: datetime,
) -> tuple[list[JobView], str]:
    check_can(actor, Permission.LOOK)
    return jobs.page(session, states=states, limit=limit, before=before, away_before=away_before)


def show_job(actor: Actor, session: ReadSession, job_id: str, *, away_before: datetime) -> JobView:
    check_can(actor, Permission.LOOK)
    return _existing(session, job_id, away_before)


def cancel_job(actor: Actor, session: WriteSession, job_id: str, *, now: datetime, away_before: datetime) -> JobView:
    """Stop a job: at once while it waits, else the site is asked and confirms.

    Raises:
        ConflictError: it has ended.
    """
    facts = existing_facts(session, job_id)
    check_can_cancel(actor, submitter=facts.submitter, job_id=job_id)
    if is_final(facts.state):
        if facts.state is JobState.CANCELLED:
            return _existing(session, job_id, away_before)
        raise ConflictError(
            f"{job_id} has ended", code="job-ended", why=f"it is {facts.state}", hint="there is nothing left to cancel"
        )
    if not job_states.cancel_queued(session, job_id, by=actor.name, now=now):
        job_states.request_cancel(session, job_id)
    return _existing(session, job_id, away_before)


def read_logs(actor: Actor, session: ReadSession, job_id: str, *, after: int, limit: int) -> list[LogLine]:
    check_can(actor, Permission.LOOK)
    existing_facts(session, job_id)
    return stream.logs(session, job_id, after_cursor=after, limit=limit)


def read_metrics(actor: Actor, session: ReadSession, job_id: str, *, key: str | None) -> list[dict[str, Any]]:
    check_can(actor, Permission.LOOK)
    existing_facts(session, job_id)
    return stream.metrics(session, job_id, key=key)


def read_egress(actor: Actor, session: ReadSession, job_id: str) -> list[EgressItem]:
    """What reached the hub for a job, in the order of the site's ledger."""
    check_can(actor, Permission.LOOK)
    existing_facts(session, job_id)
    return sorted(stream.egress(session, job_id) + outputs.egress(session, job_id), key=lambda item: item.entry)


def read_meter(actor: Actor, session: ReadSession, job_id: str) -> MeterView:
    """What left for a job, by channel, and how much it may send."""
    check_can(actor, Permission.LOOK)
    found = egress.meter(session, job_id)
    if found is None:
        raise no_such_job(job_id)
    return found


def existing_facts(session: ReadSession, job_id: str) -> jobs.JobFacts:
    facts = jobs.facts(session, job_id)
    if facts is None:
        raise no_such_job(job_id)
    return facts


def no_such_job(job_id: str) -> NotFoundError:
    return NotFoundError(f"there is no job {job_id[:40]!r}", code="no-such-job", hint="see `insitu job list`")


def _existing(session: ReadSession, job_id: str, away_before: datetime) -> JobView:
    view = jobs.view(session, job_id, away_before=away_before)
    if view is None:
        raise no_such_job(job_id)
    return view
