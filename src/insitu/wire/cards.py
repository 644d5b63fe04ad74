"""A resident model's card: what the hub may know of a model that stays at its site.

Names, digests and counts, under the site's signature; a closed schema without a byte
of the model. What may be said in free text is the rule and who decided, both bounded.
`open_card` at the hub gives a `VerifiedCard`, the only thing that is admitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from insitu.domain.outputs import OutputType
from insitu.wire.envelopes import Envelope, open_envelope, seal
from insitu.wire.keys import SigningKey
from insitu.wire.names import explain

CARD_TYPE = "application/vnd.insitu.card.v1+json"

_DIGEST = r"^sha256:[0-9a-f]{64}$"


class CardDocument(BaseModel):
    """The payload of a card's envelope. `code`, `lock`, `base` and `datasets` are those of the signed job."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal["insitu.card/1"] = "insitu.card/1"
    job_id: str
    attempt: int
    fence: int
    output: str
    type: OutputType
    register_as: str | None
    digest: str = Field(pattern=_DIGEST, description="of the files that stay, see releases.files_digest")
    files: int = Field(ge=1, le=1000)
    size_bytes: int = Field(ge=0)
    datasets: dict[str, str] = Field(description="name@version → digest")
    code: str
    lock: str
    base: str
    policy_version: int
    rule: str = Field(max_length=200, description="what keeps it at the site")
    reviewer: str = Field(default="", max_length=200)
    entry: int = Field(ge=0, description="the ledger entry that was on disk before this was sent")
    decided_at: AwareDatetime


@dataclass(frozen=True)
class VerifiedCard:
    """A card that the site's key signed. Only `open_card` makes one."""

    document: CardDocument
    envelope: Envelope


def seal_card(document: CardDocument, key: SigningKey) -> Envelope:
    return seal(CARD_TYPE, document, key)


def open_card(envelope: Envelope, *, site_key: str) -> VerifiedCard:
    """Check a card that came from a site, and only then read it.

    Raises:
        SignatureError: it is not what the site's key signed.
        InvalidInputError: what was signed is no card.
    """
    verified = open_envelope(envelope, CARD_TYPE, {site_key})
    try:
        document = CardDocument.model_validate(verified.payload)
    except ValidationError as exc:
        raise explain(exc, CardDocument, what="card", code="card-document") from exc
    return VerifiedCard(document=document, envelope=envelope)
