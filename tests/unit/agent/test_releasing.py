"""What leaves was in the ledger first, within the budgets; of what stays only a card leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from insitu.domain.errors import ConflictError, UnreachableError
from insitu.domain.jobs import JobState
from insitu.domain.outputs import Verdict
from insitu.domain.reviews import ItemState
from insitu.wire.cards import open_card
from insitu.wire.envelopes import Envelope
from insitu.wire.events import DecisionEvent
from insitu.wire.releases import open_release
from tests.unit.agent.review_world import ReviewWorld, held

BUDGET = "{per_job: 5MB, per_dataset_per_month: 100MB, per_submitter_per_month: 50MB%s}"


@pytest.fixture
def world(tmp_path: Path) -> ReviewWorld:
    return ReviewWorld(tmp_path / "site")


def _clean(**changes: object):
    return held(**({"verdict": Verdict.RELEASED, "rule": "clean", "findings": (), "not_checked": ()} | changes))


def _signer(envelope: Envelope) -> str:
    return envelope.signatures[0].keyid


# -- leaving -----------------------------------------------------------------------------------------------------------


def test_a_clean_output_leaves_under_an_entry_that_says_what_it_could_carry(world: ReviewWorld) -> None:
    attempt = world.attempt()
    covered_by = world.cover(attempt)
    item = world.judged(attempt, _clean(ceiling_bytes=40))
    assert world.walk_on(attempt) is JobState.SUCCEEDED
    (entry,) = world.entries("file")
    assert (entry.ceiling_bytes, entry.run_envelope) == (40, covered_by)
    (envelope,) = world.hub.releases
    document = open_release(envelope, site_key=_signer(envelope)).document
    assert (document.entry, document.digest) == (entry.seq, entry.digest)
    assert sorted(world.hub.uploads) == sorted(file.digest for file in document.files)
    assert world.state(item) == "released"


def test_an_approved_output_leaves_and_the_hub_hears_who_said_so_and_why(world: ReviewWorld) -> None:
    attempt = world.attempt()
    item = world.judged(attempt)
    world.decide(item, "approve", world.jo, reason="checked by hand")
    assert world.walk_on(attempt) is JobState.SUCCEEDED
    verdict, file = (entry for entry in world.ledger.entries() if entry.kind in ("verdict", "file"))
    assert verdict.seq < file.seq
    assert (file.rule, file.reviewer) == ("approved by jo", "jo")
    first, second = world.said.events
    assert (first["verdict"], first["review"]) == ("held", "")
    assert (second["verdict"], second["review"], second["reason"]) == ("released", "approve", "checked by hand")
    DecisionEvent.model_validate(second | {"seq": 2, "at": world.now})
    world.walk_on(attempt)
    assert len(world.said.events) == 2


@pytest.mark.parametrize(("verdict", "code"), [("reject", "output-rejected"), ("request-changes", "changes-requested")])
def test_a_denial_ends_the_job_and_says_why(world: ReviewWorld, verdict: str, code: str) -> None:
    attempt = world.attempt()
    item = world.judged(attempt)
    world.decide(item, verdict, world.jo, reason="drop the row numbers")
    from insitu.agent.releasing import after_review

    outcome = after_review(attempt)
    assert (outcome.state, outcome.event["code"]) == (JobState.REFUSED, code)
    assert outcome.event["hint"] == "drop the row numbers"
    told = world.said.events[-1]
    assert (told["verdict"], told["review"], told["reason"]) == ("refused", verdict, "drop the row numbers")
    assert not world.hub.uploads


def test_bytes_that_changed_since_they_were_frozen_stay(world: ReviewWorld) -> None:
    attempt = world.attempt()
    item = world.judged(attempt)
    world.decide(item, "approve", world.jo)
    found = world.store.queue.item(item)
    assert found is not None
    (Path(found.details["folder"]) / "MLmodel").write_text("another")
    assert world.walk_on(attempt) is JobState.HELD
    assert not world.entries("file")
    again = world.store.queue.item(item)
    assert again is not None
    assert (again.state, again.decision["rule"], again.round) == (ItemState.HELD, "frozen-digest", 1)


# -- ceilings are budgeted like bytes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("whose", ["ceiling_per_dataset_per_month", "ceiling_per_submitter_per_month"])
def test_ceilings_add_up_over_jobs_and_restarts_until_the_budget_ends(world: ReviewWorld, whose: str) -> None:
    world.write_policy(budget=BUDGET % f", {whose}: 100")
    for _ in range(2):
        attempt = world.attempt()
        world.judged(attempt, _clean(ceiling_bytes=50))
        assert world.walk_on(attempt) is JobState.SUCCEEDED
        world.open()
    attempt = world.attempt()
    item = world.judged(attempt, _clean(ceiling_bytes=1))
    assert world.walk_on(attempt) is JobState.HELD
    found = world.store.queue.item(item)
    assert found is not None
    assert found.decision["rule"] == f"budget.{whose}"
    assert found.decision["measure"] == "101 B with this"
    assert len(world.entries("file")) == 2
    attempt = world.attempt()
    world.judged(attempt, _clean(ceiling_bytes=0))
    assert world.walk_on(attempt) is JobState.SUCCEEDED


def test_an_approval_does_not_pass_over_the_ceilings_budget(world: ReviewWorld) -> None:
    """And a reviewer may approve the same item again when there is room: it is another review."""
    world.write_policy(budget=BUDGET % ", ceiling_per_dataset_per_month: 10")
    attempt = world.attempt()
    item = world.judged(attempt, held(ceiling_bytes=11))
    world.decide(item, "approve", world.jo)
    assert world.walk_on(attempt) is JobState.HELD
    assert not world.hub.uploads
    world.write_policy(budget=BUDGET % ", ceiling_per_dataset_per_month: 11")
    world.decide(item, "approve", world.jo)
    assert world.walk_on(attempt) is JobState.SUCCEEDED
    assert world.hub.uploads


def test_a_new_month_has_a_new_budget(world: ReviewWorld) -> None:
    world.write_policy(budget=BUDGET % ", ceiling_per_dataset_per_month: 10")
    for month in (11, 12):
        world.now = world.now.replace(month=month)
        attempt = world.attempt()
        world.judged(attempt, _clean(ceiling_bytes=10))
        assert world.walk_on(attempt) is JobState.SUCCEEDED


def test_ceilings_without_a_budget_of_their_own_count_against_that_for_bytes(world: ReviewWorld) -> None:
    world.write_policy(budget="{per_job: 5MB, per_dataset_per_month: 5kB, per_submitter_per_month: 50MB}")
    attempt = world.attempt()
    world.judged(attempt, _clean(ceiling_bytes=5001))
    assert world.walk_on(attempt) is JobState.HELD


# -- staying -----------------------------------------------------------------------------------------------------------


def test_of_a_resident_model_a_card_leaves_and_no_byte_of_it(world: ReviewWorld) -> None:
    attempt = world.attempt()
    item = world.judged(attempt)
    world.decide(item, "resident", world.jo, reason="it holds rows")
    assert world.walk_on(attempt) is JobState.SUCCEEDED
    assert world.state(item) == "resident"
    assert not world.hub.uploads
    assert not world.hub.releases
    (entry,) = world.entries("card")
    (envelope,) = world.hub.cards
    card = open_card(envelope, site_key=_signer(envelope)).document
    assert (card.digest, card.entry, card.rule, card.reviewer) == (entry.digest, entry.seq, "resident by jo", "jo")
    assert (entry.decision, entry.counts) == ("resident", {"files": card.files, "model_bytes": card.size_bytes})
    assert 0 < entry.size_bytes < 2000
    assert world.ledger.entry_of_resident(card.digest) == entry.seq
    assert world.ledger.entry_of_release(card.digest) is None
    world.open()
    assert world.ledger.entry_of_resident(card.digest) == entry.seq
    told = world.said.events[-1]
    assert (told["verdict"], told["review"], told["reason"]) == ("resident", "resident", "it holds rows")


def test_a_model_that_the_policy_lets_stay_needs_no_reviewer(world: ReviewWorld) -> None:
    attempt = world.attempt()
    item = world.judged(attempt, held(verdict=Verdict.RESIDENT))
    assert world.walk_on(attempt) is JobState.SUCCEEDED
    assert world.state(item) == "resident"
    (entry,) = world.entries("card")
    assert (entry.rule, entry.reviewer) == ("rows-in-model", "")


def test_a_card_that_did_not_arrive_is_sent_again_under_the_same_entry(
    world: ReviewWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("insitu.agent.releasing._RETRY_S", 0.01)
    attempt = world.attempt()
    world.judged(attempt, held(verdict=Verdict.RESIDENT))
    world.hub.errors.append(UnreachableError("away"))
    assert world.walk_on(attempt) is JobState.SUCCEEDED
    assert len(world.entries("card")) == 1
    assert len(world.hub.cards) == 1


def test_a_card_counts_against_the_budget_for_bytes(world: ReviewWorld) -> None:
    world.write_policy(budget="{per_job: 100, per_dataset_per_month: 100MB, per_submitter_per_month: 50MB}")
    attempt = world.attempt()
    item = world.judged(attempt, held(verdict=Verdict.RESIDENT))
    assert world.walk_on(attempt) is JobState.HELD
    assert world.state(item) == "held"
    assert not world.hub.cards


def test_no_value_of_a_resident_model_stands_in_its_card_or_entry(world: ReviewWorld) -> None:
    attempt = world.attempt()
    world.judged(attempt, held(verdict=Verdict.RESIDENT))
    world.walk_on(attempt)
    card = open_card(world.hub.cards[0], site_key=_signer(world.hub.cards[0])).document
    words = json.dumps([card.model_dump(mode="json"), world.entries("card")[0].model_dump(mode="json")])
    assert "weights.npy" not in words
    assert "array 3" not in words


# -- the one guarded move ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["released", "rejected", "kept", "resident", "changes_requested", "refused"])
def test_what_is_settled_stays_so(world: ReviewWorld, before: str) -> None:
    item = world.store.queue.item(world.held_item())
    assert item is not None
    item.state = ItemState(before)
    with pytest.raises(ConflictError):
        world.store.queue.move(item, ItemState.RELEASING)


def test_of_two_that_saw_the_same_state_one_moves_the_item(world: ReviewWorld) -> None:
    item_id = world.held_item()
    first, second = world.store.queue.item(item_id), world.store.queue.item(item_id)
    assert first is not None
    assert second is not None
    assert world.store.queue.move(first, ItemState.REJECTED)
    assert not world.store.queue.move(second, ItemState.RELEASING)
    assert world.state(item_id) == "rejected"
