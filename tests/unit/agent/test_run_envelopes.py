"""Run envelopes are kept at the site; each accepted job is one run, whatever crashes or comes twice."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from insitu.agent.envelope_rules import Place
from insitu.agent.run_envelopes import Covered, RunEnvelopes
from insitu.domain.errors import ConflictError, NotFoundError
from insitu.gate.policy.loading import Policy, ReviewRules, load_policy
from insitu.testing.builders import (
    A_LOCK,
    NOON,
    a_job_document,
    a_policy_text,
    a_signed_job,
    a_signed_run_envelope,
)
from insitu.wire.envelopes import Envelope
from insitu.wire.jobs import VerifiedJob, open_job
from insitu.wire.keys import SigningKey
from insitu.wire.run_envelopes import open_run_envelope, sign_run_envelope

ALICE, JO, KIM, SITE = (SigningKey.generate() for _ in range(4))
POLICY = load_policy(a_policy_text(ALICE, reviewer=JO))
PLACE = Place(SITE.fingerprint, POLICY, A_LOCK)


@pytest.fixture
def kept(tmp_path: Path) -> RunEnvelopes:
    return RunEnvelopes(tmp_path / "run-envelopes.db")


def add(kept: RunEnvelopes, envelope: Envelope, policy: Policy = POLICY) -> str:
    verified = open_run_envelope(envelope, reviewers=policy.review.reviewers)
    kept.add(verified, envelope, now=NOON)
    return verified.digest


def approved(**changes: Any) -> Envelope:
    return a_signed_run_envelope(SITE, ALICE, JO, **changes)


def a_job(**changes: Any) -> VerifiedJob:
    return open_job(a_signed_job(ALICE, document=a_job_document(**changes)), signers=POLICY.signers)


def cover(kept: RunEnvelopes, job_id: str, **changes: Any) -> Covered:
    return kept.cover(job_id, a_job(**changes), PLACE, now=NOON)


def runs(kept: RunEnvelopes) -> list[int]:
    return [one.approval.runs for one in kept.all(POLICY)]


def test_a_site_without_run_envelopes_covers_nothing_and_has_no_file(kept: RunEnvelopes, tmp_path: Path) -> None:
    assert cover(kept, "j-1") == Covered()
    assert kept.all(POLICY) == []
    assert list(tmp_path.iterdir()) == []


def test_a_job_inside_is_covered_and_counted(kept: RunEnvelopes) -> None:
    digest = add(kept, approved())
    assert cover(kept, "j-1").digest == digest
    assert runs(kept) == [1]


def test_the_same_job_asked_again_is_one_run_also_after_a_restart(kept: RunEnvelopes, tmp_path: Path) -> None:
    digest = add(kept, approved(runs=1))
    for again in (kept, kept, RunEnvelopes(tmp_path / "run-envelopes.db")):
        assert cover(again, "j-1").digest == digest
    assert runs(kept) == [1]


def test_the_run_after_the_last_is_outside_and_says_so(kept: RunEnvelopes) -> None:
    add(kept, approved(runs=2))
    assert cover(kept, "j-1").digest
    assert cover(kept, "j-2").digest
    third = cover(kept, "j-3")
    assert third.digest == ""
    assert third.hint == "nearest run envelope: 'wdbc-logistic'; 2 runs so far, allowed 2 runs"
    assert runs(kept) == [2]


def test_jobs_that_come_at_once_do_not_share_the_last_run(kept: RunEnvelopes) -> None:
    add(kept, approved(runs=3))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: cover(kept, f"j-{number}").digest, range(16)))
    assert sum(bool(digest) for digest in found) == 3
    assert runs(kept) == [3]


def test_what_was_counted_is_on_the_disk_before_the_answer(kept: RunEnvelopes, tmp_path: Path) -> None:
    add(kept, approved())
    cover(kept, "j-1")
    with sqlite3.connect(tmp_path / "run-envelopes.db") as other:
        assert other.execute("select job_id from runs").fetchall() == [("j-1",)]
        assert other.execute("pragma journal_mode").fetchone() == ("delete",)


def test_of_several_that_cover_a_job_the_first_to_expire_is_used_up_first(kept: RunEnvelopes) -> None:
    add(kept, approved())
    sooner = add(kept, approved(expires_at=NOON + timedelta(days=1)))
    assert cover(kept, "j-1").digest == sooner


def test_a_job_outside_hears_of_the_nearest(kept: RunEnvelopes) -> None:
    given = {"patients": {"type": "dataset", "dataset": "wdbc@1"}, "C": 1.0}
    command = "python train.py --C ${{inputs.C}}"
    document = a_job_document(inputs=given, command=command)
    add(kept, approved(document=document, params={"C": {"at_least": 0.1, "at_most": 10}}))
    add(kept, approved(title="another thing"))
    outside = cover(kept, "j-1", inputs={**given, "C": 30}, command=command)
    assert outside.hint == "nearest run envelope: 'wdbc-logistic'; C = 30, allowed 0.1 to 10"
    assert runs(kept) == [0, 0]


def test_a_revoked_one_covers_nothing_from_that_moment_on(kept: RunEnvelopes) -> None:
    digest = add(kept, approved())
    assert cover(kept, "j-1").digest == digest
    kept.revoke(digest, reason="the code has a fault", now=NOON)
    assert cover(kept, "j-2").digest == ""
    assert kept.still_covers("j-1", a_job(), PLACE).digest == ""
    assert cover(kept, "j-1").digest == ""  # another attempt of the job that it had covered
    (standing,) = kept.all(POLICY)
    assert (standing.approval.revoked, standing.reason) == (True, "the code has a fault")


def test_a_revoked_one_does_not_come_back_by_being_sent_again(kept: RunEnvelopes) -> None:
    envelope = approved()
    digest = add(kept, envelope)
    kept.revoke(digest, reason="x", now=NOON)
    with pytest.raises(ConflictError, match="revoked"):
        add(kept, envelope)
    with pytest.raises(ConflictError, match="not in force"):
        kept.revoke(digest, reason="x", now=NOON)


def test_what_covered_a_job_goes_on_covering_it_after_its_last_day(kept: RunEnvelopes) -> None:
    digest = add(kept, approved(runs=1, expires_at=NOON + timedelta(hours=1)))
    cover(kept, "j-1")
    assert kept.still_covers("j-1", a_job(), PLACE).digest == digest
    assert kept.still_covers("j-9", a_job(), PLACE) == Covered()


def test_of_a_reviewer_who_was_struck_off_nothing_counts_any_more(kept: RunEnvelopes) -> None:
    add(kept, approved())
    cover(kept, "j-1")
    without_jo = Place(SITE.fingerprint, load_policy(a_policy_text(ALICE)), A_LOCK)
    assert kept.cover("j-2", a_job(), without_jo, now=NOON).digest == ""
    assert kept.still_covers("j-1", a_job(), without_jo).digest == ""
    (standing,) = kept.all(without_jo.policy)
    assert standing.approval.signed_by == {}


def test_a_second_reviewer_s_signature_stands_under_the_same_document(kept: RunEnvelopes) -> None:
    document = a_signed_run_envelope(SITE, ALICE, JO)
    review = ReviewRules(reviewers={"jo": JO.fingerprint, "kim": KIM.fingerprint}, needed=2)
    two = POLICY.model_copy(update={"review": review})
    place = Place(SITE.fingerprint, two, A_LOCK)
    digest = add(kept, document, two)
    assert kept.cover("j-1", a_job(), place, now=NOON).digest == ""
    again = sign_run_envelope(open_run_envelope(document, reviewers=two.review.reviewers).document, KIM)
    assert add(kept, again, two) == digest
    assert len(kept.envelopes_of(digest)) == 2
    assert kept.cover("j-1", a_job(), place, now=NOON).digest == digest


def test_one_is_found_by_the_start_of_its_digest_if_that_is_one(kept: RunEnvelopes) -> None:
    digest = add(kept, approved())
    assert kept.find(digest[:15], POLICY).approval.digest == digest
    assert kept.find(digest.removeprefix("sha256:")[:8], POLICY).approval.digest == digest
    for word in ("", "sha256:0000000000000000", "nothing"):
        with pytest.raises(NotFoundError):
            kept.find(word, POLICY)
    add(kept, approved(runs=3))
    with pytest.raises(NotFoundError, match="several"):
        kept.find("sha256:", POLICY)
