"""Somebody tries to have jobs released by themselves that no reviewer of this site approved.

A run envelope counts when a reviewer whom the policy names signed exactly these
bytes, for this site, for jobs that are not their own, and it is neither over nor
taken back. Each try here is brought in at the agent's own socket, which is more
than a stolen hub could do: the hub has no way at all to bring one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import rfc8785

from insitu.agent import steward_envelopes
from insitu.agent.cover_attempt import at_acceptance, before_judging
from insitu.agent.folder import SiteFolder
from insitu.agent.ledger import Ledger
from insitu.agent.policy_file import PolicyFile
from insitu.agent.run_envelopes import RunEnvelopes
from insitu.agent.settings import AgentSettings, save_settings
from insitu.agent.steward import Steward
from insitu.agent.store import Store
from insitu.domain.errors import ConflictError, DeniedError
from insitu.testing.builders import A_BASE, A_LOCK, NOON, a_policy_text, a_signed_job, a_signed_run_envelope
from insitu.wire.envelopes import Envelope, parse_envelope, seal
from insitu.wire.jobs import JOB_TYPE, Target, open_job
from insitu.wire.keys import SigningKey
from insitu.wire.run_envelopes import open_run_envelope
from insitu.wire.sync import SyncReply
from insitu.wire.verdicts import VERDICT_TYPE

ALICE, JO, THIEF, ELSEWHERE = (SigningKey.generate() for _ in range(4))
TARGET = Target(base=A_BASE, python="3.11", platform="x86_64-linux", lock=A_LOCK)


class Attacked:
    """A site whose policy names the reviewer `jo`, at its agent's socket."""

    def __init__(self, root: Path) -> None:
        self.folder = SiteFolder(root)
        self.folder.make()
        self.key = SigningKey.generate()
        self.key.save(self.folder.key)
        self.folder.policy.write_text(a_policy_text(ALICE, reviewer=JO))
        save_settings(self.folder, AgentSettings(site="leeds", hub="http://127.0.0.1:1"))
        self.store, self.ledger = Store(self.folder.database), Ledger(self.folder.ledger)
        self.policy = PolicyFile(self.folder.policy)
        self.clock = NOON
        self.steward = cast("Steward", SimpleNamespace(**vars(self), now=self.now))
        self.site = cast("Any", SimpleNamespace(**vars(self), now=self.now))

    def now(self) -> datetime:
        return self.clock

    def bring(self, envelope: Envelope) -> dict[str, Any]:
        return steward_envelopes.envelope_add(self.steward, envelope=envelope.model_dump(mode="json"))

    def covers(self, job_id: str, *, signer: SigningKey = ALICE) -> str:
        policy = self.policy.require()
        job = open_job(a_signed_job(signer), signers={**policy.signers, "jo": JO.fingerprint})
        return str(at_acceptance(self.site, job_id, job, TARGET)["run_envelope"])

    def approved(self, **changes: Any) -> Envelope:
        return a_signed_run_envelope(self.key, ALICE, JO, **changes)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Attacked]:
    attacked = Attacked(tmp_path / "site")
    yield attacked
    attacked.ledger.close()
    attacked.store.close()


def altered(envelope: Envelope, **changes: Any) -> Envelope:
    """The same signatures over another text."""
    raw = envelope.model_dump()
    document = json.loads(base64.b64decode(raw["payload"])) | changes
    raw["payload"] = base64.b64encode(rfc8785.dumps(document)).decode()
    return parse_envelope(raw)


def test_an_honest_one_counts_or_the_rest_here_would_prove_nothing(site: Attacked) -> None:
    added = site.bring(site.approved())
    assert added["state"] == "in force"
    assert site.covers("j-1") == added["id"]


@pytest.mark.parametrize(
    ("make", "code", "rule"),
    [
        (lambda site: a_signed_run_envelope(site.key, ALICE, THIEF), "unknown-reviewer", "review.reviewers"),
        (lambda site: a_signed_run_envelope(site.key, ALICE, ALICE), "unknown-reviewer", "review.reviewers"),
        (lambda site: a_signed_run_envelope(site.key, ALICE, site.key), "unknown-reviewer", "review.reviewers"),
        (lambda site: altered(site.approved(), runs=100_000), "bad-signature", ""),
        (lambda site: altered(site.approved(), params={}, locks="any"), "bad-signature", ""),
        (lambda site: altered(site.approved(), who={"eve": THIEF.fingerprint}), "bad-signature", ""),
        (lambda site: a_signed_run_envelope(ELSEWHERE, ALICE, JO), "run-envelope-denied", "site"),
        (lambda site: a_signed_run_envelope(site.key, JO, JO), "run-envelope-denied", "review.own"),
        (lambda site: site.approved(who={"jo": ALICE.fingerprint}), "run-envelope-denied", "review.own"),
        (lambda site: site.approved(expires_at=NOON), "run-envelope-denied", "expiry"),
    ],
    ids=[
        "by a stranger", "by the data scientist", "by the site's own key", "more runs", "more packages", "for others",
        "of another site", "for the reviewer's own jobs", "for the reviewer's own name", "over",
    ],
)  # fmt: skip
def test_what_no_reviewer_of_this_site_approved_is_not_kept(site: Attacked, make: Any, code: str, rule: str) -> None:
    with pytest.raises(DeniedError) as caught:
        site.bring(make(site))
    assert (caught.value.code, caught.value.rule) == (code, rule)
    assert site.covers("j-1") == ""
    assert site.ledger.head.entries == 0


@pytest.mark.parametrize("kind", [JOB_TYPE, VERDICT_TYPE])
def test_a_signature_that_a_reviewer_gave_for_something_else_is_none_for_this(site: Attacked, kind: str) -> None:
    document = open_run_envelope(site.approved(), reviewers={"jo": JO.fingerprint}).document
    other = seal(kind, document, JO)
    for envelope in (other, other.model_copy(update={"payloadType": site.approved().payloadType})):
        with pytest.raises(DeniedError):
            site.bring(envelope)
    assert site.covers("j-1") == ""


def test_one_that_was_put_into_the_file_behind_the_agent_s_back_counts_no_more_than_its_signature(
    site: Attacked,
) -> None:
    kept = RunEnvelopes(site.folder.run_envelopes)
    for envelope, signer in (
        (a_signed_run_envelope(ELSEWHERE, ALICE, JO), JO),
        (a_signed_run_envelope(site.key, JO, JO), JO),
        (a_signed_run_envelope(site.key, ALICE, THIEF), THIEF),
        (site.approved(expires_at=NOON), JO),
    ):
        kept.add(open_run_envelope(envelope, reviewers={"x": signer.fingerprint}), envelope, now=NOON)
    assert site.covers("j-1") == ""
    assert site.covers("j-2", signer=JO) == ""
    honest = site.approved()
    verified = open_run_envelope(honest, reviewers={"jo": JO.fingerprint})
    kept.add(verified, altered(honest, runs=100_000), now=NOON)
    assert site.covers("j-3") == ""


def test_a_reviewer_who_is_a_signer_too_gets_nothing_for_their_own_jobs(site: Attacked) -> None:
    site.bring(a_signed_run_envelope(site.key, ALICE, JO))
    both = {"alice": ALICE.fingerprint, "jo_at_work": JO.fingerprint}
    site.folder.policy.write_text(a_policy_text(ALICE, reviewer=JO, signers=json.dumps(both), version="8"))
    assert site.covers("j-1", signer=JO) == ""
    assert site.covers("j-2")


def test_sending_it_again_with_another_signature_beside_it_gives_no_fresh_runs(site: Attacked) -> None:
    envelope = site.approved(runs=1)
    site.bring(envelope)
    assert site.covers("j-1")
    raw, other = envelope.model_dump(), a_signed_run_envelope(site.key, ALICE, THIEF).model_dump()
    raw["signatures"] = [*other["signatures"], *raw["signatures"]]
    again = parse_envelope(raw)
    assert again.digest != envelope.digest
    assert site.bring(again)["state"] == "used up"
    assert site.covers("j-2") == ""


def test_one_that_was_taken_back_stays_so_and_ends_what_runs_under_it(site: Attacked) -> None:
    envelope = site.approved()
    added = site.bring(envelope)
    covered = site.covers("j-1")
    steward_envelopes.envelope_revoke(site.steward, id=added["id"], reason="a fault in the code")
    with pytest.raises(ConflictError, match="revoked"):
        site.bring(envelope)
    job = open_job(a_signed_job(ALICE), signers={"alice": ALICE.fingerprint})
    row = SimpleNamespace(job_id="j-1", details={"run_envelope": covered, "target": TARGET.model_dump()})
    attempt = cast("Any", SimpleNamespace(site=site.site, row=row, verified=job, run_envelope=covered))
    before_judging(attempt)
    assert row.details["run_envelope"] == ""
    assert "it was revoked" in row.details["nearest_envelope"]


def test_a_clock_that_runs_on_ends_it(site: Attacked) -> None:
    site.bring(site.approved())
    site.clock = NOON + timedelta(days=30)
    assert site.covers("j-1") == ""


def test_each_approval_and_each_end_is_in_the_ledger(site: Attacked) -> None:
    added = site.bring(site.approved())
    site.bring(site.approved(runs=3))
    steward_envelopes.envelope_revoke(site.steward, id=added["id"], reason="x")
    entries = [(entry.kind, entry.name, entry.decision, entry.reviewer) for entry in site.ledger.entries()]
    kind = ("verdict", "run envelope")
    assert entries == [(*kind, "approved", "jo"), (*kind, "approved", "jo"), (*kind, "revoked", "")]
    assert site.ledger.entries()[0].run_envelope == added["id"]


def test_a_hub_has_no_word_in_which_it_could_bring_one() -> None:
    said = json.dumps(SyncReply.model_json_schema()).lower()
    assert "run_envelope" not in said
    assert "policy" not in said
