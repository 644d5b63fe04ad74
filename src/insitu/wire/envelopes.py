"""DSSE envelopes over canonical JSON: how anything is signed here.

The payload is RFC 8785 canonical JSON; the signature is Ed25519 over DSSE's
pre-authentication encoding (github.com/secure-systems-lab/dsse, protocol.md), so
a signature for one payload type is none for another. Beside DSSE's `keyid` (the
fingerprint) each signature carries the public key: readers trust fingerprints.

`open_envelope` is the only way from bytes to a `Verified` payload: who signed is
settled before anything of the payload is parsed.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, cast

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from insitu.domain.digests import Digest, digest_of
from insitu.domain.errors import SignatureError
from insitu.wire.canonical import read_canonical
from insitu.wire.keys import Fingerprint, SigningKey, VerifyKey, parse_verify_key

MAX_PAYLOAD_BYTES = 1 << 20


class Signature(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    keyid: str = Field(max_length=128)
    sig: str = Field(max_length=128)
    key: str = Field(max_length=128)


class Envelope(BaseModel):
    """A signed document as it travels. Unverified: its payload means nothing yet."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    payload: str = Field(max_length=MAX_PAYLOAD_BYTES * 4 // 3 + 4)
    payloadType: str = Field(max_length=128)  # noqa: N815 - DSSE's spelling
    signatures: list[Signature] = Field(min_length=1, max_length=4)

    @property
    def digest(self) -> Digest:
        return digest_of(rfc8785.dumps(self.model_dump(mode="json")))


@dataclass(frozen=True)
class Verified:
    """A payload whose signature was checked, and who signed it. Made by `open_envelope` alone."""

    payload: dict[str, Any]
    signer: Fingerprint
    key: VerifyKey


def _encoding(payload_type: str, payload: bytes) -> bytes:
    """DSSE's PAE."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def seal(payload_type: str, document: BaseModel, key: SigningKey) -> Envelope:
    """`document` as canonical JSON, signed with `key`."""
    payload = rfc8785.dumps(document.model_dump(mode="json", by_alias=True))
    signature = key.sign(_encoding(payload_type, payload))
    return Envelope(
        payload=base64.b64encode(payload).decode(),
        payloadType=payload_type,
        signatures=[
            Signature(keyid=key.fingerprint, sig=base64.b64encode(signature).decode(), key=key.public.text),
        ],
    )


def parse_envelope(raw: object) -> Envelope:
    """`raw` (parsed JSON) as an envelope, unverified.

    Raises:
        SignatureError: it isn't one.
    """
    try:
        return Envelope.model_validate(raw)
    except ValidationError as exc:
        raise SignatureError(
            "this is not a signed envelope",
            why="DSSE wants payload, payloadType and signatures",
            hint="submit with `insitu run`, which signs",
        ) from exc


def open_envelope(envelope: Envelope, payload_type: str, trusted: Collection[str]) -> Verified:
    """Check who signed `envelope`, and only then read it.

    Args:
        envelope: as it arrived.
        payload_type: the only type that is accepted here.
        trusted: fingerprints that may sign; empty means nobody.

    Raises:
        SignatureError: wrong type, no signature of a trusted key, or altered bytes.
    """
    if envelope.payloadType != payload_type:
        raise SignatureError(
            f"a document of type {envelope.payloadType[:60]!r} came where {payload_type!r} was expected"
        )
    try:
        payload = base64.b64decode(envelope.payload, validate=True)
    except binascii.Error as exc:
        raise SignatureError("the envelope's payload is not base64") from exc
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise SignatureError("the envelope is too large", measure=f"{len(payload)} bytes", limit="1 MiB")
    key = _trusted_key(envelope, trusted, payload)
    try:
        document = read_canonical(payload)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise SignatureError("the envelope's payload is not canonical JSON (RFC 8785)")
    return Verified(payload=cast("dict[str, Any]", document), signer=key.fingerprint, key=key)


def _trusted_key(envelope: Envelope, trusted: Collection[str], payload: bytes) -> VerifyKey:
    for signature in envelope.signatures:
        key = parse_verify_key(signature.key)
        # The name is recomputed from the key: a keyid that somebody wrote proves nothing.
        if key.fingerprint in trusted:
            try:
                raw = base64.b64decode(signature.sig, validate=True)
            except binascii.Error as exc:
                raise SignatureError("the signature is not base64") from exc
            key.check(raw, _encoding(envelope.payloadType, payload))
            return key
    raise SignatureError(
        "no key that is listed here signed this",
        code="unknown-signer",
        why=f"signed by {envelope.signatures[0].keyid[:80]}",
        hint="a steward lists the keys whose jobs may run under `signers` in the site's policy",
        rule="signers",
    )


def signer_of(envelope: Envelope) -> VerifyKey:
    """The key that signed, checked for the signature but trusted by nobody yet (the hub's view).

    Raises:
        SignatureError: the signature does not match.
    """
    key = parse_verify_key(envelope.signatures[0].key)
    open_envelope(envelope, envelope.payloadType, {key.fingerprint})
    return key
