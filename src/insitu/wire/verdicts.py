"""A steward's verdict on a held item, signed by a reviewer whom the policy names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from insitu.domain.errors import SignatureError
from insitu.wire.envelopes import Envelope, open_envelope, seal
from insitu.wire.keys import Fingerprint, SigningKey
from insitu.wire.names import explain

VERDICT_TYPE = "application/vnd.insitu.verdict.v1+json"


class VerdictDocument(BaseModel):
    """The payload of a verdict's envelope: over the item's digest, so it fits nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal["insitu.verdict/1"] = "insitu.verdict/1"
    release_id: str
    digest: str
    verdict: Literal["approve", "reject"]
    reason: str = Field(max_length=500)
    policy_version: int
    ledger_entries: int
    ledger_hash: str
    given_at: AwareDatetime


@dataclass(frozen=True)
class VerifiedVerdict:
    document: VerdictDocument
    reviewer: Fingerprint
    reviewer_name: str


def sign_verdict(document: VerdictDocument, key: SigningKey) -> Envelope:
    return seal(VERDICT_TYPE, document, key)


def open_verdict(envelope: Envelope, *, reviewers: Mapping[str, str]) -> VerifiedVerdict:
    """Check a verdict's signature, and only then read it.

    Raises:
        SignatureError: no reviewer whom the policy names signed it.
        InvalidInputError: what was signed is no verdict.
    """
    try:
        verified = open_envelope(envelope, VERDICT_TYPE, set(reviewers.values()))
    except SignatureError as exc:
        if exc.code != "unknown-signer":
            raise
        raise SignatureError(
            "no reviewer whom the policy names signed this verdict",
            code="unknown-reviewer",
            rule="review.reviewers",
            measure=envelope.signatures[0].keyid[:80],
            limit=", ".join(reviewers) or "nobody is named",
            hint="a steward names reviewers under `review.reviewers` in the site's policy",
        ) from exc
    try:
        document = VerdictDocument.model_validate(verified.payload)
    except ValidationError as exc:
        raise explain(exc, VerdictDocument, what="verdict", code="verdict-document") from exc
    name = next(name for name, print_ in reviewers.items() if print_ == verified.signer)
    return VerifiedVerdict(document=document, reviewer=verified.signer, reviewer_name=name)


def verdict_document(
    *,
    release_id: str,
    digest: str,
    verdict: Literal["approve", "reject"],
    reason: str,
    policy_version: int,
    ledger_entries: int,
    ledger_hash: str,
    now: datetime,
) -> VerdictDocument:
    return VerdictDocument(
        release_id=release_id,
        digest=digest,
        verdict=verdict,
        reason=reason,
        policy_version=policy_version,
        ledger_entries=ledger_entries,
        ledger_hash=ledger_hash,
        given_at=now,
    )
