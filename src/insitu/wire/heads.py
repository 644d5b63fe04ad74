"""A ledger's head with two signatures: the site's, which wrote it, and the hub's, which saw it.

Neither can rewrite the ledger alone: the hub countersigns a head only when it is
proved to begin with the one before, and the site lets nothing leave when the hub
remembers what its ledger does not hold. With this file, the ledger, and the two
public keys, anybody can check that offline.
"""

from __future__ import annotations

import base64
import binascii
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from insitu.domain.errors import IntegrityError, InvalidInputError, SignatureError
from insitu.wire.keys import Fingerprint, parse_verify_key
from insitu.wire.ledger import ReadLedger, root_digest
from insitu.wire.sync import head_message


class CountersignedHead(BaseModel):
    """As it lies beside a ledger. Unverified: `check_signatures` first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal["insitu.head/1"] = "insitu.head/1"
    site: str
    entries: int = Field(ge=0)
    hash: str
    root: str
    site_key: str
    site_signature: str = Field(max_length=128)
    hub_key: str
    hub_signature: str = Field(max_length=128)


def parse_head(text: str) -> CountersignedHead:
    """A head from its JSON.

    Raises:
        InvalidInputError: it is none.
    """
    try:
        return CountersignedHead.model_validate_json(text)
    except ValidationError as exc:
        raise InvalidInputError("this is not a countersigned head of a ledger", code="ledger-head") from exc


def check_signatures(head: CountersignedHead) -> tuple[Fingerprint, Fingerprint]:
    """Who signed: the site's key and the hub's. Whether those are the right keys is for the caller to compare.

    Raises:
        SignatureError: a signature is not that of the key beside it.
    """
    message = head_message(head.site, head.entries, head.hash, head.root)
    signers: list[Fingerprint] = []
    for text, signature in ((head.site_key, head.site_signature), (head.hub_key, head.hub_signature)):
        key = parse_verify_key(text)
        try:
            key.check(base64.b64decode(signature, validate=True), message)
        except binascii.Error as exc:
            raise SignatureError("a signature of the ledger's head is not base64", code="ledger-head") from exc
        signers.append(key.fingerprint)
    return signers[0], signers[1]


def check_begins_with(ledger: ReadLedger, head: CountersignedHead) -> None:
    """Raise unless the ledger begins with what was countersigned.

    Raises:
        IntegrityError: it is shorter, or its first entries are others.
    """
    if head.entries > ledger.head.entries:
        raise IntegrityError(
            "the ledger went back",
            code="ledger-broken",
            rule="countersigned-head",
            measure=f"{ledger.head.entries} entries",
            limit=f"{head.entries} were countersigned",
            hint="an older copy was put back, or entries were cut off; keep both files as evidence",
        )
    if root_digest(ledger.tree, head.entries) != head.root:
        raise IntegrityError(
            f"the ledger's first {head.entries} entries are not those that were countersigned",
            code="ledger-broken",
            rule="countersigned-head",
            hint="it was rewritten, though its own chain holds; keep both files as evidence",
        )
