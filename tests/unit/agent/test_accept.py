"""May it run here? Each rule that says no names itself, its measure and its limit."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from insitu.agent.accept import check_may_deploy, check_may_run
from insitu.domain.digests import digest_of
from insitu.domain.errors import DeniedError, SignatureError
from insitu.gate.policy.loading import load_policy
from insitu.testing.builders import (
    A_BASE,
    A_DATASET,
    A_LOCK,
    NOON,
    a_job_document,
    a_policy_text,
    a_signed_deployment,
    a_signed_job,
)
from insitu.wire.deployments import ServingResources, open_deployment
from insitu.wire.jobs import NO_PACKAGES, Target, check_fresh, open_job
from insitu.wire.keys import SigningKey

ALICE = SigningKey.generate()


def _check(document: dict[str, Any] | None = None, **changes: Any) -> Target:
    policy = load_policy(a_policy_text(ALICE, **changes.pop("policy", {})))
    job = open_job(a_signed_job(ALICE, document=document), signers=policy.signers)
    arguments: dict[str, Any] = {
        "base": A_BASE,
        "offered": {("wdbc", 1): A_DATASET},
        "runs_of": lambda _: 0,
        "now": NOON,
    }
    return check_may_run(job, policy, **(arguments | changes))


def test_a_job_that_the_policy_grants_runs_on_the_lock_signed_for_this_base() -> None:
    assert _check().lock == A_LOCK


@pytest.mark.parametrize(
    ("document", "changes", "rule"),
    [
        ({}, {"base": digest_of(b"another")}, "bases"),
        ({}, {"policy": {"bases": "[]"}}, "bases"),
        ({}, {"offered": {}}, "dataset-version"),
        ({}, {"offered": {("wdbc", 1): digest_of(b"swapped")}}, "dataset-version"),
        ({}, {"policy": {"datasets": "{}"}}, "datasets"),
        ({"tags": {}}, {}, "datasets.wdbc.purpose"),
        ({"tags": {"purpose": "marketing"}}, {}, "datasets.wdbc.purpose"),
        ({}, {"now": NOON + timedelta(days=400)}, "datasets.wdbc.until"),
        ({}, {"runs_of": lambda _: 50}, "datasets.wdbc.runs"),
        (
            {},
            {"policy": {"datasets": "{wdbc: {who: [], purpose: screening, until: 2027-06-30, runs: 50}}"}},
            "datasets.wdbc.who",
        ),
        ({"resources": {"memory": "64GiB"}}, {}, "sandbox.memory"),
        ({"resources": {"cpus": 64}}, {}, "sandbox.cpus"),
        ({"limits": {"timeout": "7h"}}, {}, "sandbox.timeout"),
    ],
)
def test_each_rule_says_no_by_its_name(document: dict[str, Any], changes: dict[str, Any], rule: str) -> None:
    with pytest.raises(DeniedError) as caught:
        _check(a_job_document(**document), **changes)
    error = caught.value
    assert error.rule == rule
    assert error.measure
    assert error.limit
    assert error.hint
    assert error.exit_code == 3


IMAGE = digest_of(b"an image")
PIN = {"digest": IMAGE, "blobs": [digest_of(b"config"), digest_of(b"layer")]}


def _in_image(*, listed: str = IMAGE, lock: str = digest_of(NO_PACKAGES), pin: Any = PIN, said: bool = True) -> Target:
    target = Target(base=A_BASE, python="3.11", platform="x86_64-linux", lock=lock, image=pin)
    document = a_job_document(**({"environment": {"image": f"example.org/kitchen@{IMAGE}"}} if said else {}))
    policy = load_policy(a_policy_text(ALICE, images=f"[{listed}]" if listed else "[]"))
    job = open_job(a_signed_job(ALICE, document=document, target=target), signers=policy.signers)
    offered = {("wdbc", 1): A_DATASET}
    return check_may_run(job, policy, base=A_BASE, offered=offered, runs_of=lambda _: 0, now=NOON)


def test_a_job_in_an_image_that_the_policy_lists_may_run() -> None:
    found = _in_image().image
    assert found is not None
    assert found.digest == IMAGE


@pytest.mark.parametrize("listed", ["", digest_of(b"another")])
def test_a_job_in_an_image_that_the_policy_does_not_list_is_refused(listed: str) -> None:
    with pytest.raises(DeniedError) as caught:
        _in_image(listed=listed)
    assert (caught.value.code, caught.value.rule, caught.value.measure) == ("image-not-accepted", "images", IMAGE)
    assert caught.value.limit == (listed or "none listed")
    assert "policy.yaml" in caught.value.hint


@pytest.mark.parametrize(
    "signed",
    [
        {"pin": None},  # the file names an image, and none was signed
        {"said": False},  # one was signed that the file doesn't name
        {"lock": A_LOCK},  # an image and packages
    ],
)
def test_a_job_whose_image_is_not_what_was_signed_is_refused(signed: dict[str, Any]) -> None:
    with pytest.raises(DeniedError) as caught:
        _in_image(**signed)
    assert caught.value.code == "image-not-signed"


def test_a_dataset_that_was_named_but_not_pinned_is_refused() -> None:
    document = a_job_document()
    document["inputs"] |= {"other": {"type": "dataset", "dataset": "payroll@1"}}
    with pytest.raises(DeniedError, match="not signed"):
        _check(document)


@pytest.mark.parametrize(("moved", "code"), [(timedelta(days=8), "expired"), (-timedelta(hours=1), "signed-in-future")])
def test_a_stale_or_premature_signature_is_refused(moved: timedelta, code: str) -> None:
    with pytest.raises(DeniedError) as caught:
        check_fresh(NOON, NOON + timedelta(days=7), now=NOON + moved)
    assert caught.value.code == code


def _check_deployment(
    *, released: bool = True, resident: bool = False, running: dict[str, int] | None = None, **changes: Any
) -> None:
    policy = load_policy(a_policy_text(ALICE))
    deployment = open_deployment(a_signed_deployment(ALICE, **changes), signers={"alice": policy.signers["alice"]})
    check_may_deploy(
        deployment,
        policy,
        site="leeds",
        running=running or {},
        entry_of_release=lambda _: 3 if released else None,
        entry_of_resident=lambda _: 4 if resident else None,
    )


def test_a_deployment_of_a_model_that_this_site_released_may_run() -> None:
    _check_deployment()


def test_a_model_that_is_resident_here_may_be_served_without_an_image() -> None:
    _check_deployment(released=False, resident=True, image=None)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"image": None}, "image"),
        ({"released": False, "image": None}, "model"),
        ({"site": "turin"}, "site"),
        ({"base": digest_of(b"another")}, "bases"),
        ({"released": False}, "model"),
        ({"running": {"a": 1, "b": 1, "c": 1}}, "deployments.max"),
        ({"running": {"screening": 2}}, "revision"),
        ({"resources": ServingResources(memory_bytes=64 << 30)}, "deployments.memory"),
        ({"port": 22}, "deployments.ports"),
        ({"released": False, "resident": True}, "resident"),
    ],
)
def test_each_rule_for_deployments_says_no_by_its_name(arguments: dict[str, Any], rule: str) -> None:
    with pytest.raises(DeniedError) as caught:
        _check_deployment(**arguments)
    assert caught.value.rule == rule


def test_a_deployment_signed_by_nobody_listed_is_refused() -> None:
    with pytest.raises(SignatureError):
        open_deployment(a_signed_deployment(SigningKey.generate()), signers={"alice": ALICE.fingerprint})
