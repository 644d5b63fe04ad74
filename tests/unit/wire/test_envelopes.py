"""Who signed is settled before anything is read, and nothing that was altered is read at all."""

from __future__ import annotations

import base64
import json

import pytest
import rfc8785

from insitu.domain.errors import SignatureError
from insitu.testing.builders import NOON, a_signed_job
from insitu.wire.envelopes import Envelope, open_envelope, parse_envelope, signer_of
from insitu.wire.jobs import JOB_TYPE, open_job
from insitu.wire.keys import SigningKey

ALICE = SigningKey.generate()
MALLORY = SigningKey.generate()


def test_a_listed_signer_s_job_opens_and_names_the_signer() -> None:
    job = open_job(a_signed_job(ALICE), signers={"alice": ALICE.fingerprint})
    assert (job.signer_name, job.signer) == ("alice", ALICE.fingerprint)
    assert job.document.signed_at == NOON


def test_nobody_is_trusted_when_no_signer_is_listed() -> None:
    with pytest.raises(SignatureError) as caught:
        open_job(a_signed_job(ALICE), signers={})
    assert caught.value.code == "unknown-signer"
    assert caught.value.hint


def test_a_stranger_s_signature_is_refused_though_it_is_valid() -> None:
    envelope = a_signed_job(MALLORY)
    assert signer_of(envelope) == MALLORY.public
    with pytest.raises(SignatureError):
        open_job(envelope, signers={"alice": ALICE.fingerprint})


def test_a_keyid_that_lies_about_its_key_proves_nothing() -> None:
    envelope = a_signed_job(MALLORY).model_dump()
    envelope["signatures"][0]["keyid"] = ALICE.fingerprint
    with pytest.raises(SignatureError):
        open_job(parse_envelope(envelope), signers={"alice": ALICE.fingerprint})


def test_a_public_key_put_beside_another_s_signature_is_refused() -> None:
    envelope = a_signed_job(MALLORY).model_dump()
    envelope["signatures"][0] |= {"keyid": ALICE.fingerprint, "key": ALICE.public.text}
    with pytest.raises(SignatureError):
        open_job(parse_envelope(envelope), signers={"alice": ALICE.fingerprint})


@pytest.mark.parametrize("change", ["command", "experiment_name"])
def test_an_altered_payload_is_refused(change: str) -> None:
    envelope = a_signed_job(ALICE).model_dump()
    document = json.loads(base64.b64decode(envelope["payload"]))
    document["job"][change] = "something else"
    envelope["payload"] = base64.b64encode(rfc8785.dumps(document)).decode()
    with pytest.raises(SignatureError):
        open_job(parse_envelope(envelope), signers={"alice": ALICE.fingerprint})


def test_a_signature_for_one_type_is_none_for_another() -> None:
    envelope = a_signed_job(ALICE)
    relabelled = Envelope(payload=envelope.payload, payloadType="application/other", signatures=envelope.signatures)
    with pytest.raises(SignatureError):
        open_envelope(relabelled, "application/other", {ALICE.fingerprint})
    with pytest.raises(SignatureError):
        open_envelope(envelope, "application/other", {ALICE.fingerprint})


def test_a_payload_that_is_not_canonical_is_refused_even_when_signed() -> None:
    payload = b'{"b": 1, "a": 2}'
    message = b"DSSEv1 %d %s %d %s" % (len(JOB_TYPE), JOB_TYPE.encode(), len(payload), payload)
    envelope = Envelope.model_validate(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": JOB_TYPE,
            "signatures": [
                {
                    "keyid": ALICE.fingerprint,
                    "sig": base64.b64encode(ALICE.sign(message)).decode(),
                    "key": ALICE.public.text,
                }
            ],
        }
    )
    with pytest.raises(SignatureError, match="canonical"):
        open_envelope(envelope, JOB_TYPE, {ALICE.fingerprint})


@pytest.mark.parametrize("raw", [None, [], {}, {"payload": "x"}, {"payload": "", "payloadType": "", "signatures": []}])
def test_what_is_no_envelope_is_refused(raw: object) -> None:
    with pytest.raises(SignatureError):
        parse_envelope(raw)
