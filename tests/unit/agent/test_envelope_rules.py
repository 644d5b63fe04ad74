"""A job is inside a run envelope when it is equal or narrower in everything; each rule that says no names itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from insitu.agent.envelope_rules import Approval, Mismatch, Place, nearest, why_not, why_not_any_more
from insitu.domain.digests import Digest, digest_of
from insitu.gate.policy.loading import load_policy
from insitu.testing.builders import (
    A_LOCK,
    NOON,
    a_job_document,
    a_policy_text,
    a_run_envelope,
    a_signed_job,
    a_signed_run_envelope,
)
from insitu.wire.jobs import open_job
from insitu.wire.keys import SigningKey
from insitu.wire.run_envelopes import open_run_envelope

ALICE, JO, SITE = SigningKey.generate(), SigningKey.generate(), SigningKey.generate()
PARAMS = {"C": {"at_least": 0.1, "at_most": 10}, "estimator": {"values": ["logistic", "ridge"]}}
POLICY = load_policy(a_policy_text(ALICE, reviewer=JO))


def job_document(*, C: Any = 1.0, estimator: Any = "logistic", **changes: Any) -> dict[str, Any]:
    given = {"patients": {"type": "dataset", "dataset": "wdbc@1"}, "C": C, "estimator": estimator}
    command = "python train.py --C ${{inputs.C}} --estimator ${{inputs.estimator}}"
    return a_job_document(**({"inputs": given, "command": command} | changes))


def outside(
    document: dict[str, Any] | None = None,
    *,
    runs: int = 0,
    revoked: bool = False,
    policy: Any = POLICY,
    site: SigningKey = SITE,
    lock: str = A_LOCK,
    image: str = "",
    now: Any = NOON,
    signed_by: dict[str, str] | None = None,
    **changes: Any,
) -> list[Mismatch]:
    """Why the job is outside of a run envelope that was made for `job_document()`, with `changes` to it."""
    allowed = a_signed_run_envelope(SITE, ALICE, JO, document=job_document(), **({"params": PARAMS} | changes))
    verified = open_run_envelope(allowed, reviewers=policy.review.reviewers)
    signers = {verified.signer_name: str(verified.signer)} if signed_by is None else signed_by
    approval = Approval(verified.digest, verified.document, signers, runs, revoked)
    job = open_job(a_signed_job(ALICE, document=document or job_document()), signers=POLICY.signers)
    return list(why_not(approval, job, Place(site.fingerprint, policy, lock, image), now=now))


def rules(mismatches: list[Mismatch]) -> list[str]:
    return [one.rule for one in mismatches]


def test_the_job_that_it_was_made_from_is_inside() -> None:
    assert outside() == []


def test_a_job_in_an_image_of_its_own_is_outside_whatever_packages_are_allowed() -> None:
    found = outside(image=digest_of(b"an image"), locks="any")
    assert rules(found) == ["image"]
    assert found[0].limit == "packages of a lock"


@pytest.mark.parametrize("C", [0.1, 10, 5.5, 1])
def test_a_number_in_the_range_is_inside_both_ends_included(C: float) -> None:
    assert outside(job_document(C=C)) == []


@pytest.mark.parametrize("C", [0.0999999, 10.0001, 30, -1, "1.0", "5", True])
def test_a_number_beyond_the_range_or_anything_that_is_no_number_is_outside(C: Any) -> None:
    assert rules(outside(job_document(C=C))) == ["params.C"]


def test_a_mismatch_says_what_it_saw_and_what_would_be_allowed() -> None:
    (mismatch,) = outside(job_document(C=30))
    assert str(mismatch) == "C = 30, allowed 0.1 to 10"
    (mismatch,) = outside(job_document(estimator="knn"))
    assert str(mismatch) == "estimator = knn, allowed logistic or ridge"


@pytest.mark.parametrize(
    ("allowed", "given", "inside"),
    [
        ([1], 1.0, True),
        ([1], True, False),
        ([True], 1, False),
        (["1"], 1, False),
        ([1], "1", False),
        ([0], False, False),
    ],
)
def test_values_of_different_kinds_are_never_equal(allowed: list[Any], given: Any, *, inside: bool) -> None:
    params = {**PARAMS, "C": {"values": allowed}}
    assert (outside(job_document(C=given), params=params) == []) is inside


def test_one_parameter_more_or_less_is_outside() -> None:
    more = job_document()
    more["inputs"] = {**more["inputs"], "seed": 7}
    assert rules(outside(more)) == ["params.seed"]
    less = job_document(command="python train.py --C ${{inputs.C}}")
    del less["inputs"]["estimator"]
    assert rules(outside(less)) == ["command", "params.estimator"]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        (
            {"command": "python train.py --C ${{inputs.C}} --estimator ${{inputs.estimator}}; cat /job/inputs/*"},
            "command",
        ),
        ({"metrics": ["*"]}, "metrics"),
        ({"metrics": ["auc", "auc_of_row_*"]}, "metrics"),
        ({"outputs": {"other": {"type": "uri_file"}}}, "outputs.other"),
        ({"outputs": {"model": {"type": "uri_folder"}}}, "outputs.model"),
        ({"outputs": {"model": {"type": "mlflow_model", "register": "another", "max_bytes": 1}}}, "outputs.model"),
        ({"outputs": {"model": {"type": "mlflow_model", "register": "breast-cancer"}}}, "outputs.model"),
        (
            {"outputs": {"model": {"type": "mlflow_model", "register": "breast-cancer", "max_bytes": 2_000_001}}},
            "outputs.model",
        ),
    ],
)
def test_whatever_is_wider_or_other_is_outside(changes: dict[str, Any], rule: str) -> None:
    assert rules(outside(job_document(**changes))) == [rule]


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": ["auc"]},
        {"metrics": ["training_loss", "training_acc*"]},
        {"metrics": []},
        {"outputs": {}},
        {"outputs": {"model": {"type": "mlflow_model", "max_bytes": 2_000_000}}},
        {"outputs": {"model": {"type": "mlflow_model", "register": "breast-cancer", "max_bytes": 1}}},
        {"display_name": "another", "description": "words", "experiment_name": "other"},
        {"resources": {"cpus": 2, "memory": "2GiB"}, "limits": {"timeout": "1h"}, "retries": 2},
    ],
)
def test_equal_or_narrower_is_inside(changes: dict[str, Any]) -> None:
    assert outside(job_document(**changes)) == []


@pytest.mark.parametrize("pattern", ["train*", "[at]uc", "?uc", "training_[x]*", "*_auc"])
def test_a_pattern_that_is_not_plainly_narrower_is_outside(pattern: str) -> None:
    document = job_document(metrics=[pattern])
    expected = [] if pattern.startswith("training_") else ["metrics"]
    assert rules(outside(document)) == expected


@pytest.mark.parametrize(
    ("datasets", "rule"),
    [
        ({"patients": {"name": "wdbc", "versions": [2, 3]}}, ["datasets.patients"]),
        ({"patients": {"name": "payroll", "versions": "any"}}, ["datasets.patients"]),
        ({}, ["datasets.patients"]),
        ({"patients": {"name": "wdbc", "versions": [1]}, "more": {"name": "wdbc", "versions": [1]}}, ["datasets.more"]),
        ({"patients": {"name": "wdbc", "versions": "any"}}, []),
    ],
)
def test_each_dataset_is_one_that_was_approved_in_a_version_that_was(datasets: Any, rule: list[str]) -> None:
    assert rules(outside(datasets=datasets)) == rule


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"lock": digest_of(b"others")}, "locks"),
        ({"code": digest_of(b"other")}, "code"),
        ({"runs": 20}, "runs"),
        ({"now": NOON + timedelta(days=30)}, "expiry"),
        ({"revoked": True}, "revoked"),
        ({"site": SigningKey.generate()}, "site"),
        ({"who": {"bob": SigningKey.generate().fingerprint}}, "who"),
        ({"signed_by": {}}, "review"),
        ({"signed_by": {"alice": ALICE.fingerprint}}, "review"),
        ({"signed_by": {"someone": ALICE.fingerprint}}, "review"),  # alice's key under another name
        ({"signed_by": {"Alice": SigningKey.generate().fingerprint}}, "review"),  # another key of alice's
    ],
)
def test_the_approval_itself_must_stand(arguments: dict[str, Any], rule: str) -> None:
    assert rules(outside(**arguments)) == [rule]


def test_any_packages_are_inside_only_where_that_was_said() -> None:
    assert outside(locks="any", lock=digest_of(b"others")) == []


def test_where_the_policy_wants_two_reviewers_one_signature_is_not_enough() -> None:
    needs_two = POLICY.model_copy(update={"review": POLICY.review.model_copy(update={"needed": 2})})
    assert rules(outside(policy=needs_two)) == ["review"]
    two: dict[str, str] = {"jo": JO.fingerprint, "kim": SigningKey.generate().fingerprint}
    assert outside(policy=needs_two, signed_by=two) == []
    with_the_signer: dict[str, str] = {"jo": JO.fingerprint, "alice": ALICE.fingerprint}
    assert rules(outside(policy=needs_two, signed_by=with_the_signer)) == ["review"]


def test_time_and_number_of_runs_are_settled_when_a_job_is_accepted() -> None:
    document = a_run_envelope(SITE, ALICE, document=job_document(), params=PARAMS)
    approval = Approval(Digest("sha256:" + "0" * 64), document, {"jo": JO.fingerprint}, 20, revoked=False)
    job = open_job(a_signed_job(ALICE, document=job_document()), signers=POLICY.signers)
    place = Place(SITE.fingerprint, POLICY, A_LOCK)
    assert rules(list(why_not(approval, job, place, now=NOON + timedelta(days=31)))) == ["expiry", "runs"]
    assert why_not_any_more(approval, job, place) == ()


def test_the_nearest_is_the_one_that_objects_to_least() -> None:
    def approval(title: str) -> Approval:
        document = a_run_envelope(SITE, ALICE, title=title)
        return Approval(Digest("sha256:" + "0" * 64), document, {}, 0, revoked=False)

    one, two = Mismatch("params.C", "C = 30", "1"), Mismatch("code", "a", "b")
    found = nearest([(approval("far"), (one, two)), (approval("near"), (one,))])
    assert found is not None
    assert found[0].document.title == "near"
    assert nearest([]) is None
