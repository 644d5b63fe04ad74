"""A reviewer's verdict on a held item, and that somebody looked at one: both signed with the same key.

A verdict counts when the policy names the reviewer. A view counts as signed whoever
signed it: it is a record of who looked, and lets nobody do anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from insitu.domain.errors import DeniedError
from insitu.domain.reviews import ReviewVerdict
from insitu.wire.envelopes import Envelope, open_envelope, seal, signer_of
from insitu.wire.keys import Fingerprint, SigningKey
from insitu.wire.names import explain
from insitu.wire.reviewers import open_by_reviewer

VERDICT_TYPE = "application/vnd.insitu.verdict.v1+json"
VIEW_TYPE = "application/vnd.insitu.view.v1+json"

_VIEW_IS_FRESH = timedelta(minutes=10)


class VerdictDocument(BaseModel):
    """The payload of a verdict's envelope: over the item's digest, so it fits nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal["insitu.verdict/1"] = "insitu.verdict/1"
    release_id: str
    digest: str
    verdict: ReviewVerdict
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
    verified, name = open_by_reviewer(envelope, VERDICT_TYPE, reviewers, what="verdict")
    try:
        document = VerdictDocument.model_validate(verified.payload)
    except ValidationError as exc:
        raise explain(exc, VerdictDocument, what="verdict", code="verdict-document") from exc
    return VerifiedVerdict(document=document, reviewer=verified.signer, reviewer_name=name)


def verdict_document(
    *,
    release_id: str,
    digest: str,
    verdict: ReviewVerdict,
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


# -- views -------------------------------------------------------------------------------------------------------------


class ViewDocument(BaseModel):
    """The payload of a view's envelope: who asks for an item's evidence says so before it is shown."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal["insitu.view/1"] = "insitu.view/1"
    release_id: str = Field(max_length=40)
    what: Literal["show", "diff"]
    name: str = Field(default="", max_length=64, description="what the viewer calls themselves")
    viewed_at: AwareDatetime


@dataclass(frozen=True)
class VerifiedView:
    document: ViewDocument
    viewer: Fingerprint


def sign_view(document: ViewDocument, key: SigningKey) -> Envelope:
    return seal(VIEW_TYPE, document, key)


def open_view(envelope: Envelope, *, release_id: str, what: str, now: datetime) -> VerifiedView:
    """Check that a key signed for looking at this item now.

    Raises:
        SignatureError: the signature is not of the key beside it.
        InvalidInputError: what was signed is no view.
        DeniedError: it is of another item, or was signed at another time.
    """
    key = signer_of(envelope)
    verified = open_envelope(envelope, VIEW_TYPE, {key.fingerprint})
    try:
        document = ViewDocument.model_validate(verified.payload)
    except ValidationError as exc:
        raise explain(exc, ViewDocument, what="view", code="view-document") from exc
    fresh = abs(now - document.viewed_at) <= _VIEW_IS_FRESH
    if (document.release_id, document.what) != (release_id, what) or not fresh:
        raise DeniedError(
            "what was signed is not for looking at this now",
            code="stale-view",
            rule="view",
            measure=f"{document.what} of {document.release_id} at {document.viewed_at:%Y-%m-%d %H:%M}Z",
            limit=f"{what} of {release_id} at {now:%Y-%m-%d %H:%M}Z",
            hint="ask again; if it stays, compare this machine's clock with the site's",
        )
    return VerifiedView(document, verified.signer)
