"""What a steward may ask about run envelopes: draft one from a job, sign, list, show, revoke.

As with verdicts, reaching the socket is access and a key is identity. An approval is
in the ledger before it counts; a revocation counts before it is in the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from insitu.agent.envelope_rules import Approval, Place, why_not
from insitu.agent.run_envelopes import RunEnvelopes, Standing
from insitu.agent.settings import load_settings
from insitu.agent.steward import Steward
from insitu.agent.store import AttemptRow
from insitu.domain.errors import DeniedError, NotFoundError
from insitu.gate.policy.loading import Policy
from insitu.wire.envelopes import parse_envelope
from insitu.wire.jobs import VerifiedJob, open_job
from insitu.wire.keys import SigningKey
from insitu.wire.ledger import GENESIS, LedgerEntry
from insitu.wire.run_envelopes import (
    DEFAULT_RUNS,
    DEFAULT_VALID_FOR,
    VerifiedRunEnvelope,
    allow_job,
    open_run_envelope,
)


def envelope_terms(steward: Steward) -> dict[str, Any]:
    """What a run envelope for this site has to name, and whom it may be for."""
    policy = steward.policy.require()
    return {
        "site": load_settings(steward.folder).site,
        "site_key": _site_key(steward),
        "signers": dict(policy.signers),
        "needed": policy.review.needed,
        "now": steward.now().isoformat(),
    }


def envelope_draft(steward: Steward, *, job: str) -> dict[str, Any]:
    """What would cover a job of this site, and nothing else: a document to widen and sign.

    Raises:
        NotFoundError: this site has never had the job.
    """
    row = steward.store.newest_attempt(job)
    if row is None:
        raise NotFoundError(f"this site has had no job {job!r}", code="no-job", hint="`insitu release list` names jobs")
    signed = _open_job(row, steward.policy.require())
    now = steward.now()
    document = allow_job(
        signed.job,
        code=signed.document.code,
        locks=_locks(row, signed),
        versions={pin.name: pin.version for pin in signed.document.datasets},
        site=load_settings(steward.folder).site,
        site_key=_site_key(steward),
        who={signed.signer_name: signed.signer},
        runs=DEFAULT_RUNS,
        now=now,
        expires_at=now + DEFAULT_VALID_FOR,
    )
    return document.model_dump(mode="json")


def envelope_add(steward: Steward, *, envelope: dict[str, Any]) -> dict[str, Any]:
    """Keep a run envelope that a reviewer signed, or a second reviewer's signature under one.

    Raises:
        SignatureError: no reviewer whom the policy names signed it.
        DeniedError: it is for another site, for the signer's own jobs, or over.
        ConflictError: it was revoked.
        UnavailableError: the ledger can't be written, so nothing is approved.
    """
    policy, parsed = steward.policy.require(), parse_envelope(envelope)
    verified = open_run_envelope(parsed, reviewers=policy.review.reviewers)
    _check_may_stand(verified, steward)
    kept = _kept(steward)
    known = {one.approval.digest: one.approval.signed_by for one in kept.all(policy)}
    if verified.signer not in known.get(verified.digest, {}).values():
        _record(steward, policy, verified.digest, decision="approved", reviewer=verified.signer_name)
    kept.add(verified, parsed, now=steward.now())
    return _shown(kept.find(verified.digest, policy), policy, steward.now())


def envelope_list(steward: Steward) -> list[dict[str, Any]]:
    policy = steward.policy.current()
    return [_shown(one, policy, steward.now()) for one in _kept(steward).all(policy)]


def envelope_show(steward: Steward, *, id: str, job: str = "") -> dict[str, Any]:
    """A run envelope; with a job, also why that job is outside."""
    policy = steward.policy.current()
    found = _kept(steward).find(id, policy)
    shown = _shown(found, policy, steward.now())
    shown["envelopes"] = [one.model_dump(mode="json") for one in _kept(steward).envelopes_of(found.approval.digest)]
    if job:
        shown["job"] = {"id": job, "outside": _outside(steward, found.approval, job)}
    return shown


def envelope_revoke(steward: Steward, *, id: str, reason: str) -> dict[str, Any]:
    """Cover nothing with it from now on, also not what runs now."""
    policy = steward.policy.current()
    found = _kept(steward).find(id, policy)
    _kept(steward).revoke(found.approval.digest, reason=reason, now=steward.now())
    _record(steward, policy, found.approval.digest, decision="revoked", reviewer="")
    return _shown(_kept(steward).find(found.approval.digest, policy), policy, steward.now())


CALLS: Mapping[str, Callable[..., Any]] = {
    call.__name__: call
    for call in (envelope_terms, envelope_draft, envelope_add, envelope_list, envelope_show, envelope_revoke)
}
"""By name, each with the steward as its first argument."""


def _kept(steward: Steward) -> RunEnvelopes:
    return RunEnvelopes(steward.folder.run_envelopes)


def _site_key(steward: Steward) -> str:
    return SigningKey.load(steward.folder.key).fingerprint


def _open_job(row: AttemptRow, policy: Policy) -> VerifiedJob:
    return open_job(parse_envelope(row.envelope), signers={**policy.signers, **row.details.get("signer", {})})


def _locks(row: AttemptRow, job: VerifiedJob) -> list[str]:
    """The lock that it ran on here; of a job that never ran, each that was signed."""
    target = row.details.get("target")
    return [target["lock"]] if target else sorted({one.lock for one in job.document.targets})


def _check_may_stand(verified: VerifiedRunEnvelope, steward: Steward) -> None:
    document, now = verified.document, steward.now()
    site_key = _site_key(steward)
    own = verified.signer in document.who.values() or verified.signer_name in document.who
    checks = (
        (document.site_key == site_key, "site", document.site_key, site_key, "make it at this site"),
        (not own, "review.own", verified.signer_name, "never", "another reviewer whom the policy names signs it"),
        (now < document.expires_at, "expiry", f"{document.expires_at:%Y-%m-%d}", f"after {now:%Y-%m-%d}", "--until"),
    )
    for holds, rule, measure, limit, hint in checks:
        if not holds:
            raise DeniedError(
                "this run envelope can't stand here",
                code="run-envelope-denied",
                rule=rule,
                measure=measure,
                limit=limit,
                hint=hint,
            )


def _record(steward: Steward, policy: Policy | None, digest: str, *, decision: str, reviewer: str) -> None:
    entry = LedgerEntry(
        seq=0,
        at=steward.now(),
        kind="verdict",
        name="run envelope",
        decision=decision,
        rule="review",
        digest=digest,
        run_envelope=digest,
        policy_version=policy.version if policy else 0,
        reviewer=reviewer,
        prev=GENESIS,
    )
    steward.ledger.append(entry)


def _outside(steward: Steward, approval: Approval, job_id: str) -> list[str]:
    row, policy = steward.store.newest_attempt(job_id), steward.policy.require()
    if row is None:
        raise NotFoundError(f"this site has had no job {job_id!r}", code="no-job")
    job = _open_job(row, policy)
    place = Place(_site_key(steward), policy, _locks(row, job)[0])
    return [str(mismatch) for mismatch in why_not(approval, job, place, now=steward.now())]


def _shown(one: Standing, policy: Policy | None, now: datetime) -> dict[str, Any]:
    approval = one.approval
    return {
        "id": approval.digest,
        "title": approval.document.title,
        "state": _state(one, policy, now),
        "signed_by": sorted(approval.signed_by),
        "needed": policy.review.needed if policy else 0,
        "runs": approval.runs,
        "added_at": one.added_at.isoformat(),
        "revoked_at": one.revoked_at.isoformat() if one.revoked_at else "",
        "reason": one.reason,
        "allows": approval.document.model_dump(mode="json"),
    }


def _state(one: Standing, policy: Policy | None, now: datetime) -> str:
    approval = one.approval
    if approval.revoked:
        return "revoked"
    if now >= approval.document.expires_at:
        return "expired"
    if approval.runs >= approval.document.runs:
        return "used up"
    needed = policy.review.needed if policy else 1
    return "in force" if len(approval.signed_by) >= needed else "unsigned"
