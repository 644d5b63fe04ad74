"""What only a reviewer can sign: opened if a key of theirs, as the site's policy names them now, signed it."""

from __future__ import annotations

from collections.abc import Mapping

from insitu.domain.errors import SignatureError
from insitu.wire.envelopes import Envelope, Verified, open_envelope


def open_by_reviewer(
    envelope: Envelope, payload_type: str, reviewers: Mapping[str, str], *, what: str
) -> tuple[Verified, str]:
    """The checked document, and the reviewer's name.

    Args:
        envelope: as it arrived, or as it was stored.
        payload_type: the only type that is accepted here.
        reviewers: name → fingerprint. Empty: nobody may sign.
        what: what it is, for the error's sentence.

    Raises:
        SignatureError: no reviewer whom the policy names signed it, or it was altered.
    """
    try:
        verified = open_envelope(envelope, payload_type, set(reviewers.values()))
    except SignatureError as exc:
        if exc.code != "unknown-signer":
            raise
        raise SignatureError(
            f"no reviewer whom the policy names signed this {what}",
            code="unknown-reviewer",
            rule="review.reviewers",
            measure=envelope.signatures[0].keyid[:80],
            limit=", ".join(reviewers) or "nobody is named",
            hint="a steward names reviewers under `review.reviewers` in the site's policy",
        ) from exc
    return verified, next(name for name, fingerprint in reviewers.items() if fingerprint == verified.signer)
