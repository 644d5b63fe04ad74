"""What a site tells of its policy: rules, where it wants to, and never a person."""

from __future__ import annotations

from insitu.agent.published_policy import as_document, published
from insitu.gate.policy.loading import DEFAULT_POLICY_TEXT, Policy, load_policy
from insitu.testing.builders import a_policy_text
from insitu.wire.keys import SigningKey

ALICE, JO = SigningKey.generate(), SigningKey.generate()
TEXT = a_policy_text(ALICE, reviewer=JO)


def test_without_the_key_nothing_is_told() -> None:
    assert published(load_policy(TEXT), {"wdbc"}) is None
    assert published(load_policy(DEFAULT_POLICY_TEXT), {"wdbc"}) is None
    assert published(None, {"wdbc"}) is None


def test_people_keys_bases_and_deployments_are_never_told() -> None:
    policy = load_policy(TEXT + "publish_policy: true\n")
    told = published(policy, {"wdbc"})
    assert told is not None
    text = told.model_dump_json()
    for secret in ("alice", '"jo"', ALICE.fingerprint, JO.fingerprint, "8000-8010", "needed", *policy.bases):
        assert secret not in text
    assert {key.partition(".")[0] for key in told.rules} == {"sandbox", "release", "budget"}


def test_what_is_more_than_the_hub_takes_is_not_told() -> None:
    types = ", ".join(f"a.B{at}" for at in range(500))
    text = TEXT.replace("trusted_types: []", f"trusted_types: [{types}]") + "publish_policy: true\n"
    assert published(load_policy(text), {"wdbc"}) is None


def test_a_grant_for_what_the_site_does_not_offer_is_not_told() -> None:
    told = published(load_policy(TEXT + "publish_policy: true\n"), {"other"})
    assert told is not None
    assert told.datasets == {}


def test_the_rules_read_back_act_as_the_policy_does() -> None:
    policy = load_policy(TEXT + "publish_policy: true\n")
    told = published(policy, {"wdbc"})
    assert told is not None
    document = as_document(told)
    again = Policy.model_validate(
        {**document, "datasets": {}, "signers": {"alice": ALICE.fingerprint}, "bases": list(policy.bases)}
    )
    for section in ("sandbox", "release", "budget"):
        assert getattr(again, section) == getattr(policy, section)
    grant = document["datasets"]["wdbc"]
    assert (grant["purpose"], grant["runs"]) == ("screening", 50)
