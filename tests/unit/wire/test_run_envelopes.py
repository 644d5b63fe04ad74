"""A run envelope is a signed list of what may differ between runs; what it does not say is not allowed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import RootModel

from insitu.domain.errors import InvalidInputError, SignatureError
from insitu.testing.builders import a_job_document, a_run_envelope, a_signed_job, a_signed_run_envelope
from insitu.wire.envelopes import Envelope, seal
from insitu.wire.keys import SigningKey
from insitu.wire.run_envelopes import (
    RUN_ENVELOPE_TYPE,
    RunEnvelopeDocument,
    name_of,
    open_run_envelope,
    sign_run_envelope,
)

ALICE, JO, SITE = SigningKey.generate(), SigningKey.generate(), SigningKey.generate()
REVIEWERS = {"jo": JO.fingerprint}


def test_what_a_listed_reviewer_signed_is_read() -> None:
    verified = open_run_envelope(a_signed_run_envelope(SITE, ALICE, JO), reviewers=REVIEWERS)
    assert (verified.signer, verified.signer_name) == (JO.fingerprint, "jo")
    assert verified.document.site_key == SITE.fingerprint
    assert verified.document.who == {"alice": ALICE.fingerprint}


def test_it_starts_as_what_covers_one_job_and_nothing_else() -> None:
    document = a_job_document(inputs={"patients": {"type": "dataset", "dataset": "wdbc"}, "C": 1.0, "deep": True})
    made = a_run_envelope(SITE, ALICE, document=document).model_dump()
    assert made["params"] == {"C": {"values": [1.0]}, "deep": {"values": [True]}}
    assert made["datasets"] == {"patients": {"name": "wdbc", "versions": [1]}}  # the version that was signed
    assert made["command"] == document["command"]
    assert list(made["outputs"]) == ["model"]
    assert made["metrics"] == ["training_*", "auc"]


@pytest.mark.parametrize("reviewers", [{}, {"kim": SigningKey.generate().fingerprint}])
def test_what_no_listed_reviewer_signed_is_refused_by_name(reviewers: dict[str, str]) -> None:
    with pytest.raises(SignatureError) as caught:
        open_run_envelope(a_signed_run_envelope(SITE, ALICE, JO), reviewers=reviewers)
    assert (caught.value.code, caught.value.rule) == ("unknown-reviewer", "review.reviewers")


def test_a_signature_under_a_job_is_none_under_a_run_envelope() -> None:
    with pytest.raises(SignatureError, match="where"):
        open_run_envelope(a_signed_job(JO), reviewers=REVIEWERS)


def _with(**changes: Any) -> dict[str, Any]:
    return {**a_run_envelope(SITE, ALICE).model_dump(mode="json"), **changes}


@pytest.mark.parametrize(
    "document",
    [
        _with(params={"C": {"at_least": 2, "at_most": 1}}),
        _with(params={"C": {"values": []}}),
        _with(params={"C": {"at_least": 1}}),
        _with(params={"C": {"at_least": 1, "at_most": 2, "values": [1]}}),
        _with(locks=[]),
        _with(locks="some"),
        _with(datasets={"patients": {"name": "wdbc", "versions": []}}),
        _with(who={}),
        _with(runs=0),
        _with(site_key="leeds"),
        _with(expires_at="2027-01-01T00:00:00"),
        _with(anything="else"),
        _with(nonce=""),
    ],
)
def test_what_could_be_read_in_two_ways_is_no_run_envelope(document: dict[str, Any]) -> None:
    envelope = seal(RUN_ENVELOPE_TYPE, RootModel[dict[str, Any]](document), JO)
    with pytest.raises((InvalidInputError, SignatureError)):
        open_run_envelope(envelope, reviewers=REVIEWERS)


def test_its_name_is_that_of_what_was_signed_whoever_signs_it_too() -> None:
    document = a_run_envelope(SITE, ALICE)
    one, two = sign_run_envelope(document, JO), sign_run_envelope(document, ALICE)
    both = Envelope.model_validate(
        {**one.model_dump(), "signatures": [*two.model_dump()["signatures"], *one.model_dump()["signatures"]]}
    )
    assert name_of(one) == name_of(two) == name_of(both)
    assert one.digest != both.digest
    assert open_run_envelope(both, reviewers=REVIEWERS).digest == name_of(one)


def test_signed_again_from_its_own_text_it_is_the_same() -> None:
    document = a_run_envelope(SITE, ALICE, params={"C": {"at_least": 0.1, "at_most": 10}})
    again = RunEnvelopeDocument.model_validate(json.loads(document.model_dump_json()))
    assert name_of(sign_run_envelope(again, JO)) == name_of(sign_run_envelope(document, JO))


def test_a_payload_that_is_not_base64_has_no_name() -> None:
    envelope = sign_run_envelope(a_run_envelope(SITE, ALICE), JO).model_copy(update={"payload": "%%%"})
    with pytest.raises(SignatureError):
        name_of(envelope)
