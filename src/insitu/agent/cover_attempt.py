"""Which run envelope covers an attempt: asked when its job is accepted, and again before its outputs are judged.

The answer goes into the attempt's details, where the judge, the ledger's entries
and people find it. Acceptance counts the run. The second question counts nothing:
it only takes away, when the run envelope was revoked meanwhile or its reviewers
are no longer the policy's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from insitu.agent.attempt import Attempt
from insitu.agent.envelope_rules import Place
from insitu.agent.run_envelopes import Covered, RunEnvelopes
from insitu.agent.site import Site
from insitu.domain.outputs import Decision
from insitu.wire.jobs import Target, VerifiedJob

_ABOUT_ENVELOPES = frozenset({"no-envelope", "ceiling"})  # rules of the gate that a run envelope would answer


def at_acceptance(site: Site, job_id: str, job: VerifiedJob, target: Target) -> dict[str, Any]:
    """Count this job under the run envelope that covers it; what the attempt's details say of it."""
    kept = RunEnvelopes(site.folder.run_envelopes)
    return _details(kept.cover(job_id, job, _place(site, target), now=site.now()))


def before_judging(attempt: Attempt) -> None:
    """Forget a run envelope that covers this attempt no longer."""
    if attempt.run_envelope:
        site, row = attempt.site, attempt.row
        target = Target.model_validate(row.details["target"])
        kept = RunEnvelopes(site.folder.run_envelopes)
        row.details |= _details(kept.still_covers(row.job_id, attempt.verified, _place(site, target)))


def say_what_is_missing(attempt: Attempt, decisions: Sequence[Decision]) -> list[Decision]:
    """The decisions again, each that wants a run envelope with the one that came nearest, and why it is outside."""
    nearest = str(attempt.row.details.get("nearest_envelope", ""))
    if attempt.run_envelope or not nearest:
        return list(decisions)
    return [
        replace(decision, hint=f"{decision.hint}; {nearest}" if decision.hint else nearest)
        if decision.rule in _ABOUT_ENVELOPES
        else decision
        for decision in decisions
    ]


def _place(site: Site, target: Target) -> Place:
    image = target.image.digest if target.image else ""
    return Place(site.key.fingerprint, site.policy.require(), target.lock, image)


def _details(covered: Covered) -> dict[str, Any]:
    return {"run_envelope": covered.digest, "nearest_envelope": covered.hint}
