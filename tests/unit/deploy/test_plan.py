"""Every row: what is known of a deployment, and the steps that follow from it."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from insitu.deploy.health import HealthRules, Verdict
from insitu.deploy.plan import (
    Facts,
    Fetch,
    Forget,
    GiveUp,
    Instance,
    LeaveAddress,
    Remove,
    Start,
    Stop,
    Switch,
    TakeAddress,
    plan,
)
from insitu.domain.deployments import Desired, Problem
from insitu.domain.digests import digest_of

RULES = HealthRules(settle_s=30, restarts=3)
GOOD, BAD, LOST, STARTING = Verdict.GOOD, Verdict.BAD, Verdict.LOST, Verdict.STARTING
DIED = Problem("serving-ended", "the serving process ended with exit code 1")
PHASES = ("fetching", "fetched", "running", "stopping", "stopped", "ended")


def wanted(revision: int, port: int | None = None) -> Desired:
    digest = digest_of(b"")
    return Desired("wards", revision, "screening", "3", digest, digest, digest, digest, port)


def one(revision: int, phase: str = "running", verdict: Verdict = GOOD, **more: Any) -> Instance:
    more.setdefault("was_good", verdict is not STARTING)
    return Instance(revision, phase, verdict, **more)


def up(*instances: Instance, serving: int | None = None, **more: Any) -> Facts:
    return Facts(instances, **({"endpoint": True, "port": 8000, "serving": serving, "switched_s_ago": 99.0} | more))


ROLLOUT = {
    "nothing is there: the address is taken before anything is fetched": (
        wanted(1),
        Facts(),
        [TakeAddress(None), Fetch(1)],
    ),
    "a port is named": (wanted(1, 8003), Facts(), [TakeAddress(8003), Fetch(1)]),
    "fetching takes its time": (wanted(1), up(one(1, "fetching", STARTING)), []),
    "it is fetched": (wanted(1), up(one(1, "fetched", STARTING)), [Start(1)]),
    "it is not ready yet": (wanted(1), up(one(1, "running", STARTING)), []),
    "it is ready": (wanted(1), up(one(1, was_good=False)), [Switch(1)]),
    "all is well": (wanted(1), up(one(1), serving=1), []),
    "the endpoint has died": (wanted(1), up(one(1), serving=1, endpoint=False), [TakeAddress(8000)]),
    "another port is wanted": (wanted(1, 8001), up(one(1), serving=1), [TakeAddress(8001)]),
    "a new revision is wanted: the former serves on": (wanted(2), up(one(1), serving=1), [Fetch(2)]),
    "the new one starts": (wanted(2), up(one(1), one(2, "running", STARTING), serving=1), []),
    "the new one is ready": (wanted(2), up(one(1), one(2, was_good=False), serving=1), [Switch(2)]),
    "just switched: the former is kept": (wanted(2), up(one(1), one(2), serving=2, switched_s_ago=1.0), []),
    "settled: the former is stopped": (wanted(2), up(one(1), one(2), serving=2), [Stop(1)]),
    "the former has ended": (wanted(2), up(one(1, "stopped"), one(2), serving=2), [Forget(1)]),
    "a former one that is no good is not kept": (
        wanted(2),
        up(one(1, "running", BAD), one(2), serving=2, switched_s_ago=1.0),
        [Stop(1)],
    ),
    "two revisions back": (
        wanted(3),
        up(one(1), one(2, "running", STARTING), one(3, "running", STARTING), serving=1),
        [Stop(2)],
    ),
    "back to the former by wish": (wanted(1), up(one(1), one(2), serving=2, switched_s_ago=1.0), [Switch(1)]),
    "wanted again while it ends": (wanted(1), up(one(1, "stopping")), []),
    "wanted again after it ended as asked": (wanted(1), up(one(1, "stopped")), [Forget(1), Fetch(1)]),
}

TROUBLE = {
    "it never became ready": (
        wanted(1),
        up(one(1, "running", LOST, was_good=False)),
        [
            GiveUp(
                1,
                Problem(
                    "not-ready",
                    "revision 1 did not become ready in time",
                    "see deployments/services/.logs in the agent's folder",
                ),
            ),
            Stop(1),
        ],
    ),
    "it could not be fetched": (
        wanted(1),
        up(one(1, "ended", STARTING, problem=DIED)),
        [GiveUp(1, DIED), Forget(1)],
    ),
    "it failed and there is no former: the address is given back": (
        wanted(1),
        up(failed=frozenset({1})),
        [LeaveAddress()],
    ),
    "it failed and the former serves on": (wanted(2), up(one(1), serving=1, failed=frozenset({2})), []),
    "it failed and is still ending": (
        wanted(2),
        up(one(1), one(2, "stopping"), serving=1, failed=frozenset({2})),
        [],
    ),
    "it failed beside the former": (
        wanted(2),
        up(one(1), one(2, "ended", STARTING, problem=DIED), serving=1),
        [GiveUp(2, DIED), Forget(2)],
    ),
    "it failed and the former's endpoint has died": (
        wanted(2),
        up(one(1), serving=1, failed=frozenset({2}), endpoint=False),
        [TakeAddress(8000)],
    ),
    "it turned bad soon after the switch: back to the former": (
        wanted(2),
        up(one(1), one(2, "ended", problem=DIED), serving=2, switched_s_ago=5.0),
        [Switch(1), GiveUp(2, DIED), Forget(2)],
    ),
    "it died and the former is gone: it is started anew": (
        wanted(2),
        up(one(2, "ended", problem=DIED), serving=2),
        [Forget(2), Fetch(2)],
    ),
    "it died too often": (
        wanted(2),
        up(one(2, "ended", problem=DIED, restarts=3), serving=2),
        [Switch(None), GiveUp(2, DIED), Forget(2)],
    ),
    "it hangs: it is stopped, to be started anew": (wanted(1), up(one(1, "running", LOST), serving=1), [Stop(1)]),
    "it is slow for a moment": (wanted(1), up(one(1, "running", BAD), serving=1), []),
    "the former died while the new one starts": (
        wanted(2),
        up(one(1, "ended", problem=DIED), one(2, "running", STARTING), serving=1),
        [Forget(1), Fetch(1)],
    ),
    "the former died too often while the new one starts": (
        wanted(2),
        up(one(1, "ended", problem=DIED, restarts=3), one(2, "running", STARTING), serving=1),
        [Switch(None), Forget(1)],
    ),
    "the former died after the new one failed": (
        wanted(2),
        up(one(1, "ended", problem=DIED), serving=1, failed=frozenset({2})),
        [Forget(1), Fetch(1)],
    ),
}

REMOVAL = {
    "it runs": (None, up(one(1), serving=1), [LeaveAddress(), Switch(None), Stop(1)]),
    "it is ending": (None, Facts((one(1, "stopping"),)), []),
    "it has ended": (None, Facts((one(1, "stopped"),)), [Forget(1)]),
    "it was being fetched": (None, up(one(1, "fetching", STARTING)), [LeaveAddress(), Forget(1)]),
    "two revisions run": (None, Facts((one(1), one(2))), [Stop(1), Stop(2)]),
    "nothing is left": (None, Facts(), [Remove()]),
}
ROWS = ROLLOUT | TROUBLE | REMOVAL


@pytest.mark.parametrize(("desired", "facts", "steps"), ROWS.values(), ids=ROWS)
def test_the_steps_that_follow(desired, facts, steps):
    assert plan(desired, facts, RULES) == steps


def every_fact():
    """All combinations of two revisions, each in any phase, absent, good, bad, lost or starting."""
    states = [None, *product(PHASES, (STARTING, GOOD, BAD, LOST), (False, True))]
    for first, second in product(states, states):
        instances = [
            Instance(revision, state[0], state[1], was_good=state[2], problem=DIED)
            for revision, state in ((1, first), (2, second))
            if state is not None
        ]
        for serving, endpoint, failed in product((None, 1, 2), (False, True), (frozenset(), frozenset({2}))):
            yield Facts(tuple(instances), endpoint, 8000, serving, 1.0, failed)


def test_whatever_is_true_a_serving_revision_that_is_good_is_never_stopped_or_left():
    for facts in every_fact():
        serving = facts.instance(facts.serving)
        if serving is None or serving.phase != "running" or serving.verdict is not GOOD:
            continue
        steps = plan(wanted(2), facts, RULES)
        if serving.revision in facts.failed:
            continue  # given up before; it is to go
        assert Stop(serving.revision) not in steps
        assert LeaveAddress() not in steps
        assert Switch(None) not in steps


def test_whatever_is_true_the_address_is_only_switched_to_a_revision_that_is_good():
    for facts, revision in product(every_fact(), (1, 2)):
        for step in plan(wanted(revision), facts, RULES):
            if isinstance(step, Switch) and step.revision is not None:
                target = facts.instance(step.revision)
                assert target is not None
                assert (target.phase, target.verdict) == ("running", GOOD)


def test_whatever_is_true_a_revision_that_was_given_up_is_never_fetched_started_or_switched_to():
    for facts in every_fact():
        if 2 in facts.failed:
            steps = plan(wanted(2), facts, RULES)
            assert not {Fetch(2), Start(2), Switch(2)} & set(steps)


def test_whatever_is_true_removal_keeps_nothing_and_starts_nothing():
    for facts in every_fact():
        steps = plan(None, facts, RULES)
        assert not any(isinstance(step, Fetch | Start | TakeAddress | GiveUp) for step in steps)
        for instance in facts.instances:
            going = {Stop(instance.revision), Forget(instance.revision)} & set(steps)
            assert going or instance.phase == "stopping"
