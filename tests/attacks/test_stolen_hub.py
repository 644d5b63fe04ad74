"""A stolen hub tries to make a site run what nobody whom the site trusts has signed.

Each attempt must end as `refused` before the hub is asked for a single byte of
code, and before any data is touched.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
import rfc8785

from insitu.agent.assignments import Assignments
from insitu.agent.deployments import Deployments
from insitu.agent.folder import SiteFolder
from insitu.agent.folders_ahead import FoldersAhead
from insitu.agent.hub_link import HubLink
from insitu.agent.ledger import Ledger
from insitu.agent.policy_file import PolicyFile
from insitu.agent.settings import AgentSettings
from insitu.agent.site import Site
from insitu.agent.spare_threads import SpareThreads
from insitu.agent.store import Store
from insitu.testing.builders import (
    A_BASE,
    A_DATASET,
    NOON,
    a_job_document,
    a_policy_text,
    a_signed_deployment,
    a_signed_job,
)
from insitu.testing.fake_hub import FakeHub
from insitu.wire.envelopes import Envelope, parse_envelope
from insitu.wire.keys import SigningKey
from insitu.wire.sync import Assignment, DeploymentOrder

ALICE = SigningKey.generate()
THIEF = SigningKey.generate()


class Untouchable:
    """A part of the site that an unsigned job must never reach."""

    name = "bubblewrap"

    def __getattr__(self, call: str) -> Any:
        if call in {"adopt", "running"}:
            return lambda *_: frozenset()
        raise AssertionError(f"a job that should have been refused reached {call!r}")

    def destroy(self, _: str) -> None:
        """Cleaning up after a refusal is no attack."""


@dataclass
class Attacked:
    site: Site
    hub: FakeHub
    assignments: Assignments

    def send(self, *envelopes: Envelope, first_job: int = 1) -> None:
        wishes = [
            Assignment(job_id=f"j-{first_job + index}", attempt=1, fence=1, envelope=envelope)
            for index, envelope in enumerate(envelopes)
        ]
        self.assignments.apply(wishes, [])


@pytest.fixture
def attacked(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Attacked]:
    tmp_path = tmp_path_factory.mktemp("s")
    folder = SiteFolder(tmp_path / "site")
    folder.make()
    folder.policy.write_text(a_policy_text(ALICE))
    hub = FakeHub()
    store, ledger = Store(folder.database), Ledger(folder.ledger)
    site = Site(
        folder=folder,
        settings=AgentSettings(site="leeds", hub="http://127.0.0.1:1"),
        store=store,
        ledger=ledger,
        policy=PolicyFile(folder.policy),
        link=cast("HubLink", hub),
        key=SigningKey.generate(),
        base=cast("Any", SimpleNamespace(digest=A_BASE, rootfs=tmp_path, python="3.11", platform="x86_64-linux")),
        sandbox=cast("Any", Untouchable()),
        sandbox_settings=cast("Any", None),
        keepers=cast("Any", Untouchable()),
        data=cast("Any", Untouchable()),
        environment={},
        intakes=cast("Any", Untouchable()),
        judges=cast("Any", Untouchable()),
        cache=folder.cache,
        environments=cast("Any", Untouchable()),
        images=cast("Any", Untouchable()),
        folders=FoldersAhead(folder.run / "ahead", gate_uid=os.getuid(), threads=SpareThreads()),
        now=lambda: store.floor_clock(NOON),
    )
    here = {("wdbc", 1): A_DATASET}
    monkeypatch.setattr(
        "insitu.agent.steps.offered", lambda _, wanted: {pin: here[pin] for pin in wanted if pin in here}
    )
    assignments = Assignments(site, changed=lambda: None)
    yield Attacked(site, hub, assignments)
    assignments.detach()


def _last_state(hub: FakeHub) -> Any:
    hub.wait_for(lambda: bool(hub.states()) and hub.states()[-1] in {"refused", "failed", "succeeded", "cancelled"})
    return [event for event in hub.events if event.kind == "state"][-1]


def _altered(envelope: Envelope, **changes: Any) -> Envelope:
    raw = envelope.model_dump()
    document = json.loads(base64.b64decode(raw["payload"]))
    document["job"] |= changes
    raw["payload"] = base64.b64encode(rfc8785.dumps(document)).decode()
    return parse_envelope(raw)


@pytest.mark.parametrize(
    ("envelope", "code"),
    [
        (a_signed_job(THIEF), "unknown-signer"),
        (_altered(a_signed_job(ALICE), command="cat /job/inputs/patients/*"), "bad-signature"),
        (_altered(a_signed_job(ALICE), metrics=["*"]), "bad-signature"),
        (a_signed_job(ALICE, now=NOON - timedelta(days=8)), "expired"),
        (a_signed_job(ALICE, now=NOON + timedelta(hours=2)), "signed-in-future"),
        (a_signed_job(ALICE, document=a_job_document(tags={"purpose": "marketing"})), "dataset-grant"),
    ],
    ids=["forged", "command altered", "contract altered", "stale", "from the future", "another purpose"],
)
def test_a_job_that_was_not_signed_like_this_is_refused(attacked: Attacked, envelope: Envelope, code: str) -> None:
    attacked.send(envelope)
    event = _last_state(attacked.hub)
    assert (event.state, event.code) == ("refused", code)
    assert attacked.hub.fetched == []


def test_the_same_signed_job_under_a_second_id_is_a_replay(attacked: Attacked) -> None:
    envelope = a_signed_job(ALICE)
    attacked.site.store.accept(
        envelope=envelope.digest, nonce="0" * 32, job_id="j-first", expires_at=NOON, datasets=["wdbc@1"]
    )
    attacked.send(envelope)
    event = _last_state(attacked.hub)
    assert (event.state, event.code, event.rule) == ("refused", "replayed", "nonce")
    assert attacked.hub.fetched == []


def test_without_a_readable_policy_nothing_runs(attacked: Attacked) -> None:
    attacked.site.folder.policy.write_text("version: 7\nsigner: {}\n")
    attacked.send(a_signed_job(ALICE))
    event = _last_state(attacked.hub)
    assert event.state == "refused"
    assert attacked.hub.fetched == []


def test_an_attempt_with_an_older_fence_is_ignored(attacked: Attacked) -> None:
    envelope = a_signed_job(THIEF)
    attacked.assignments.apply([Assignment(job_id="j-9", attempt=2, fence=5, envelope=envelope)], [])
    attacked.assignments.apply([Assignment(job_id="j-9", attempt=1, fence=4, envelope=envelope)], [])
    assert attacked.site.store.attempt("j-9", 1) is None


@pytest.mark.parametrize(
    ("envelope", "rule"),
    [
        (a_signed_deployment(THIEF), "unknown-signer"),
        (a_signed_deployment(ALICE, site="turin"), "deployment-denied"),
        (a_signed_deployment(ALICE), "deployment-denied"),  # a model that this site never released
        (a_signed_deployment(ALICE, image=None), "deployment-denied"),  # as if it were resident here
        (a_signed_deployment(ALICE, now=NOON - timedelta(days=8)), "expired"),
    ],
    ids=["forged", "for another site", "unreleased model", "another site's resident model", "stale"],
)
def test_a_deployment_that_the_site_did_not_allow_is_not_started(
    attacked: Attacked, envelope: Envelope, rule: str
) -> None:
    deployments = Deployments(attacked.site, changed=lambda: None)
    deployments.apply([DeploymentOrder(name="screening", envelope=envelope)])
    (report,) = deployments.reports()
    assert (report.state, report.code) == ("failed", rule)
    assert attacked.site.store.deployments() == {}


def test_a_deployment_signed_under_one_name_can_t_be_started_under_another(attacked: Attacked) -> None:
    deployments = Deployments(attacked.site, changed=lambda: None)
    deployments.apply([DeploymentOrder(name="other", envelope=a_signed_deployment(ALICE))])
    assert [report.state for report in deployments.reports()] == ["failed"]
