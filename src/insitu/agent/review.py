"""Verdicts on held outputs: whose count, on what, and where the item goes.

Reaching the agent's socket is access; identity is a key. A verdict counts when a
reviewer whom the policy names has signed it, over the item's digest, and neither the
job nor an earlier verdict on this item is theirs. With `review.needed: 2` two work
blind: until both have spoken nobody is shown what the first one said, and its entry in
the ledger holds only the digest of the signed verdict, which can't be guessed without
the reviewer's key.

A verdict is in the ledger before the item moves, so before anything leaves because of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from insitu.agent.ledger import Ledger
from insitu.agent.policy_file import PolicyFile
from insitu.agent.review_queue import ItemRow, VerdictRow, ViewRow
from insitu.agent.store import AttemptRow, Store
from insitu.domain.errors import ConflictError, DeniedError, NotFoundError
from insitu.domain.jobs import is_final
from insitu.domain.outputs import OutputType
from insitu.domain.reviews import NEEDS_REASON, WAITING, ItemState, ReviewVerdict, state_after
from insitu.gate.policy.loading import Policy
from insitu.wire.envelopes import parse_envelope
from insitu.wire.jobs import VerifiedJob, open_job
from insitu.wire.ledger import GENESIS, LedgerEntry
from insitu.wire.verdicts import VerifiedVerdict, open_verdict, open_view

SEALED = "sealed"
"""What the ledger calls a verdict that nobody is told yet."""

_CUSTOM = "only the job's own code knows how to ask a custom_model, and no service here runs that"
_AS_MLFLOW = 'ask for an mlflow_model in skops or ONNX: `insitu release request-changes {id} --reason "…"`'
_STAYS = frozenset({ItemState.ANNOUNCING, ItemState.RESIDENT})


@dataclass(frozen=True)
class Review:
    """The reviewers' way to a site's items. `wake` lets a held attempt walk on."""

    store: Store
    ledger: Ledger
    policy: PolicyFile
    wake: Callable[[str, int], None]
    now: Callable[[], datetime]

    # -- looked at -----------------------------------------------------------------------------------------------------

    def note_view(self, item: ItemRow, what: str, envelope: Mapping[str, Any] | None) -> None:
        """Record that somebody looks at an item: by key where they signed for it, else as nobody.

        Raises:
            SignatureError, DeniedError: what was signed is not for this item, or not of now.
        """
        viewer, key = "", ""
        if envelope is not None:
            seen = open_view(parse_envelope(envelope), release_id=item.id, what=what, now=self.now())
            key = seen.viewer
            listed = _names_of(key, self.policy.current())
            viewer = ", ".join(sorted(listed)) or f"{seen.document.name or 'somebody'} (not listed)"
        self.store.queue.add_view(ViewRow(item.id, viewer or "nobody signed", key, what, self.now()))

    # -- decided -------------------------------------------------------------------------------------------------------

    def decide(self, item: ItemRow, envelope: Mapping[str, Any]) -> None:
        """Act on a signed verdict.

        Raises:
            SignatureError: no reviewer whom the policy names signed it.
            DeniedError: it is their own job, or the verdict is over something else.
            ConflictError: the item does not wait for a verdict (any more), or not for this reviewer's.
            UnavailableError: the ledger can't be written, so nothing is decided.
        """
        policy = self.policy.require()
        verdict = open_verdict(parse_envelope(envelope), reviewers=policy.review.reviewers)
        # Of two verdicts that come at once one is the second.
        with self.store.queue.deciding:
            row, job = self._of_item(item, policy)
            _check_document(verdict, item)
            _check_not_own(verdict, job, policy)
            self._check_waits(verdict, item, row, policy)
            self._record(item, job, verdict, dict(envelope), policy)
        if item.state not in WAITING:
            self.wake(item.job_id, item.attempt)

    def job_of(self, item: ItemRow) -> VerifiedJob:
        """The signed job that an item came of.

        Raises:
            NotFoundError: this site does not know it any more.
        """
        return self._of_item(item, self.policy.current())[1]

    def _of_item(self, item: ItemRow, policy: Policy | None) -> tuple[AttemptRow, VerifiedJob]:
        row = self.store.attempt(item.job_id, item.attempt)
        if row is None:
            raise NotFoundError(f"the attempt of {item.id} is not known here", code="no-attempt")
        listed = {**(policy.signers if policy else {}), **row.details.get("signer", {})}
        return row, open_job(parse_envelope(row.envelope), signers=listed)

    def _check_waits(self, verdict: VerifiedVerdict, item: ItemRow, row: AttemptRow, policy: Policy) -> None:
        if item.state in _STAYS:
            raise _stays_here(item)
        if item.state not in WAITING:
            shown = item.state.value.replace("_", " ")
            raise ConflictError(f"{item.id} is {shown}, not held", code="not-held", hint="see `insitu release list`")
        if row.over or is_final(row.state):
            raise ConflictError(
                f"the job of {item.id} is {row.state.value}, so there is nothing to decide any more",
                code="job-over",
                hint="the data scientist runs it again",
            )
        for given in self.store.queue.verdicts(item):
            if same_person(given.key, given.reviewer, verdict.reviewer, verdict.reviewer_name, policy):
                raise ConflictError(
                    f"{verdict.reviewer_name} has given a verdict on {item.id} already",
                    code="already-given",
                    why=f"{policy.review.needed} different reviewers are asked, and none twice",
                    hint="another reviewer whom the policy names decides with you",
                )

    def _record(
        self, item: ItemRow, job: VerifiedJob, verdict: VerifiedVerdict, envelope: dict[str, Any], policy: Policy
    ) -> None:
        """Ledger first, then the store: a crash between the two leaves a verdict that is asked for again."""
        document = verdict.document
        given = VerdictRow(
            item=item.id,
            round=item.round,
            reviewer=verdict.reviewer_name,
            key=verdict.reviewer,
            verdict=document.verdict,
            reason=document.reason,
            envelope=envelope,
            at=self.now(),
        )
        queue = self.store.queue
        # Of somebody whom the policy has stopped naming meanwhile, a verdict that nobody has seen counts no more.
        listed = set(policy.review.reviewers.values())
        all_given = [*(one for one in queue.verdicts(item) if one.key in listed), given]
        after = state_after([one.verdict for one in all_given], needed=policy.review.needed)
        decided = after is not ItemState.UNDER_REVIEW
        for one in all_given if decided else [given]:
            word = one.verdict.value if decided else SEALED
            self.ledger.append(self._entry(item, job, one, word, policy))
        if not queue.move(item, after, given=given, **(_outcome(all_given) if decided else {})):
            raise ConflictError(f"{item.id} moved on meanwhile", code="not-held", hint="see `insitu release list`")

    def _entry(self, item: ItemRow, job: VerifiedJob, given: VerdictRow, word: str, policy: Policy) -> LedgerEntry:
        views = self.store.queue.views(item.id)
        return LedgerEntry(
            seq=0,
            at=self.now(),
            kind="verdict",
            job_id=item.job_id,
            attempt=item.attempt,
            name=item.output,
            datasets=[f"{pin.name}@{pin.version}" for pin in job.document.datasets],
            submitter=job.signer,
            decision=word,
            rule="review",
            counts={
                "reviewers_needed": policy.review.needed,
                "views": len(views),
                "views_by_reviewer": sum(view.key == given.key for view in views),
            },
            digest=parse_envelope(given.envelope).digest,
            policy_version=policy.version,
            reviewer=given.reviewer,
            prev=GENESIS,
        )


def _outcome(given: list[VerdictRow]) -> dict[str, str]:
    """What is remembered of a review that has ended: the strictest verdict's word, all reasons, all names."""
    strictness = list(ReviewVerdict)
    strictest = max(given, key=lambda one: strictness.index(one.verdict)).verdict
    names = ", ".join(one.reviewer for one in given)
    said = [one for one in given if one.reason]
    reasons = [f"{one.reviewer}: {one.reason}" if len(given) > 1 else one.reason for one in said]
    words = {ReviewVerdict.APPROVE: f"approved by {names}", ReviewVerdict.RESIDENT: f"resident by {names}"}
    return {
        "review": strictest.value,
        "reviewer": names[:200],
        "reason": " / ".join(reasons)[:500],
        "verdict_rule": words.get(strictest, "")[:80],
    }


# -- what a verdict must be --------------------------------------------------------------------------------------------


def _check_document(verdict: VerifiedVerdict, item: ItemRow) -> None:
    document = verdict.document
    if document.release_id != item.id or document.digest != item.digest:
        raise DeniedError(
            "the verdict is over something else",
            code="verdict-digest",
            rule="frozen-digest",
            measure=document.digest,
            limit=item.digest,
            hint="look again with `insitu release show`, then decide",
        )
    if document.verdict in NEEDS_REASON:
        if not document.reason.strip():
            raise DeniedError(
                f"`{document.verdict.value}` needs a reason, which the data scientist sees",
                code="no-reason",
                hint="--reason TEXT",
                rule="review",
            )
        return
    if not item.details.get("files"):
        raise _nothing_to_release(item)
    if document.verdict is ReviewVerdict.RESIDENT and item.details.get("type") != OutputType.MLFLOW_MODEL.value:
        kind = str(item.details.get("type", ""))
        raise DeniedError(
            f"{item.output!r} is no model that could be served here",
            code="not-a-model",
            why=_CUSTOM if kind == OutputType.CUSTOM_MODEL else "",
            rule="resident",
            measure=kind,
            limit=OutputType.MLFLOW_MODEL.value,
            hint=_AS_MLFLOW.format(id=item.id) if kind == OutputType.CUSTOM_MODEL else "approve it, or reject it",
        )


def _stays_here(item: ItemRow) -> DeniedError:
    return DeniedError(
        f"{item.id} is resident: it may be used here, and was decided not to leave",
        code="resident",
        rule="resident",
        measure="another verdict on it",
        limit="served at this site only",
        hint="run the job again: a reviewer decides anew on what that writes",
    )


def _nothing_to_release(item: ItemRow) -> DeniedError:
    how = str(item.decision.get("hint", ""))
    ask = f'insitu release request-changes {item.id} --reason "…"'
    return DeniedError(
        "there is no canonical copy of this output, so nothing could be sent or served",
        code="nothing-to-release",
        why="the gate can't rewrite it into a form in which nothing hides",
        rule=str(item.decision.get("rule", "")),
        measure=str(item.decision.get("measure", "")),
        hint=f"ask for another format with `{ask}`" + (f"; for its author: {how}" if how else ""),
    )


def _check_not_own(verdict: VerifiedVerdict, job: VerifiedJob, policy: Policy) -> None:
    if same_person(job.signer, job.signer_name, verdict.reviewer, verdict.reviewer_name, policy):
        raise DeniedError(
            "nobody reviews their own job",
            code="own-job",
            rule="review.own",
            measure=verdict.reviewer_name,
            limit="never",
            hint="another reviewer whom the policy names decides",
        )


def same_person(key: str, name: str, other_key: str, other_name: str, policy: Policy) -> bool:
    """By key, or by any name under which the policy lists either key, as signer or as reviewer."""
    one = _names_of(key, policy) | {name}
    other = _names_of(other_key, policy) | {other_name}
    return key == other_key or bool({word.casefold() for word in one} & {word.casefold() for word in other})


def _names_of(key: str, policy: Policy | None) -> set[str]:
    if policy is None:
        return set()
    listed = [*policy.signers.items(), *policy.review.reviewers.items()]
    return {name for name, print_ in listed if print_ == key}
