"""Whose verdict counts, on what, and where the item goes. Every verdict is in the ledger before anything moves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from insitu.domain.errors import ConflictError, DeniedError, InvalidInputError, SignatureError, UnavailableError
from insitu.domain.outputs import Verdict
from insitu.wire.envelopes import parse_envelope
from insitu.wire.keys import SigningKey
from tests.unit.agent.review_world import ReviewWorld, held


@pytest.fixture
def world(tmp_path: Path) -> ReviewWorld:
    return ReviewWorld(tmp_path / "site")


@pytest.mark.parametrize(
    ("verdict", "state"),
    [
        ("approve", "releasing"),
        ("resident", "announcing"),
        ("reject", "rejected"),
        ("request-changes", "changes_requested"),
    ],
)
def test_one_reviewer_decides_where_the_policy_asks_for_one(world: ReviewWorld, verdict: str, state: str) -> None:
    item = world.held_item()
    assert world.decide(item, verdict, world.jo)["state"] == state
    assert world.state(item) == state
    assert world.woken == [("j-1", 1)]
    (entry,) = world.entries("verdict")
    assert (entry.decision, entry.reviewer, entry.name, entry.job_id) == (verdict, "jo", "model", "j-1")
    assert entry.datasets == ["wdbc@1"]


def test_a_verdict_that_the_ledger_could_not_take_decides_nothing(world: ReviewWorld) -> None:
    item = world.held_item()
    world.ledger.freeze("rolled back")
    with pytest.raises(UnavailableError):
        world.decide(item, "approve", world.jo)
    assert world.state(item) == "held"
    assert not world.store.queue.verdicts(_item(world, item))
    assert not world.woken


@pytest.mark.parametrize("verdict", ["reject", "request-changes"])
def test_a_denial_needs_a_reason(world: ReviewWorld, verdict: str) -> None:
    item = world.held_item()
    for reason in ("", "   "):
        with pytest.raises(DeniedError) as caught:
            world.decide(item, verdict, world.jo, reason=reason)
        assert caught.value.code == "no-reason"
    assert world.state(item) == "held"


def test_a_reason_is_bounded(world: ReviewWorld) -> None:
    item = world.held_item()
    envelope = world.signed(item, "reject", world.jo, reason="x" * 500)
    with pytest.raises(ValueError, match="500"):
        world.signed(item, "reject", world.jo, reason="x" * 501)
    assert world.steward.release_decide(id=item, envelope=envelope)["state"] == "rejected"


def test_nobody_but_a_reviewer_whom_the_policy_names_decides(world: ReviewWorld) -> None:
    item = world.held_item()
    with pytest.raises(SignatureError) as caught:
        world.decide(item, "approve", SigningKey.generate())
    assert caught.value.code == "unknown-reviewer"
    assert world.state(item) == "held"


def test_a_verdict_over_other_bytes_decides_nothing(world: ReviewWorld) -> None:
    item = world.held_item()
    envelope = world.signed(item, "approve", world.jo, digest="sha256:" + "0" * 64)
    with pytest.raises(DeniedError) as caught:
        world.steward.release_decide(id=item, envelope=envelope)
    assert caught.value.rule == "frozen-digest"


def test_a_view_is_no_verdict_and_a_verdict_no_view(world: ReviewWorld) -> None:
    item = world.held_item()
    with pytest.raises(SignatureError):
        world.steward.release_show(id=item, view=world.signed(item, "approve", world.jo))
    assert not world.store.queue.views(item)


# -- not one's own -----------------------------------------------------------------------------------------------------


def test_nobody_reviews_their_own_job_by_key(world: ReviewWorld) -> None:
    world.write_policy(reviewers={"somebody": world.alice})
    item = world.held_item()
    with pytest.raises(DeniedError) as caught:
        world.decide(item, "approve", world.alice)
    assert caught.value.rule == "review.own"


def test_nobody_reviews_their_own_job_by_name(world: ReviewWorld) -> None:
    world.write_policy(reviewers={"Alice": world.jo})
    with pytest.raises(DeniedError) as caught:
        world.decide(world.held_item(), "approve", world.jo)
    assert caught.value.rule == "review.own"


def test_nobody_reviews_their_own_job_with_a_second_key_that_is_listed_under_two_names(world: ReviewWorld) -> None:
    """jo's key is also a signer's, under alice's name: the first name that fits is not the only one."""
    world.write_policy(reviewers={"jo": world.jo, "alice": world.jo})
    with pytest.raises(DeniedError) as caught:
        world.decide(world.held_item(), "approve", world.jo)
    assert caught.value.rule == "review.own"


# -- two reviewers, blind ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "state"),
    [
        ("approve", "approve", "releasing"),
        ("approve", "resident", "announcing"),
        ("resident", "approve", "announcing"),
        ("approve", "reject", "rejected"),
        ("reject", "approve", "rejected"),
        ("approve", "request-changes", "changes_requested"),
        ("request-changes", "reject", "rejected"),
    ],
)
def test_of_two_verdicts_the_strictest_holds(world: ReviewWorld, first: str, second: str, state: str) -> None:
    world.write_policy(needed=2)
    item = world.held_item()
    assert world.decide(item, first, world.jo)["state"] == "under_review"
    assert not world.woken
    assert world.decide(item, second, world.bo)["state"] == state
    words = [(entry.reviewer, entry.decision) for entry in world.entries("verdict")]
    assert words == [("jo", "sealed"), ("jo", first), ("bo", second)]


@pytest.mark.parametrize("first", ["approve", "resident", "reject", "request-changes"])
def test_nothing_at_the_site_tells_what_the_first_reviewer_said(world: ReviewWorld, first: str) -> None:
    """The page, the queue, the ledger, the item's state and what the hub hears are the same whatever it was."""
    world.write_policy(needed=2)
    item = world.held_item()
    world.decide(item, first, world.jo, reason="QUITE UNMISTAKABLE")
    shown = json.dumps(
        [
            world.look(item, world.bo),
            world.look(item, world.jo),
            world.steward.release_list(),
            world.steward.release_terms(id=item),
            world.steward.ledger_show(),
            world.said.events,
        ]
    )
    assert "QUITE" not in shown
    assert world.state(item) == "under_review"
    page = world.look(item, world.bo)
    assert page["review"] == {"needed": 2, "given_by": ["jo"], "verdicts": []}
    (entry,) = world.entries("verdict")
    assert (entry.decision, entry.rule) == ("sealed", "review")


def test_the_sealed_entry_proves_afterwards_what_was_said_then(world: ReviewWorld) -> None:
    world.write_policy(needed=2)
    item = world.held_item()
    envelope = world.signed(item, "reject", world.jo, reason="no")
    world.steward.release_decide(id=item, envelope=envelope)
    world.decide(item, "approve", world.bo)
    sealed, opened, _ = world.entries("verdict")
    assert sealed.digest == opened.digest == parse_envelope(envelope).digest
    said = world.look(item, world.bo)["review"]["verdicts"]
    assert [(one["reviewer"], one["verdict"], one["reason"]) for one in said] == [
        ("jo", "reject", "no"),
        ("bo", "approve", "because"),
    ]


@pytest.mark.parametrize("names", [{}, {"jo2": "jo"}])
def test_one_person_is_not_two_reviewers(world: ReviewWorld, names: dict[str, str]) -> None:
    listed = {"jo": world.jo, "bo": world.bo} | {name: getattr(world, who) for name, who in names.items()}
    world.write_policy(needed=2, reviewers=listed)
    item = world.held_item()
    world.decide(item, "approve", world.jo)
    with pytest.raises(ConflictError) as caught:
        world.decide(item, "approve", world.jo)
    assert caught.value.code == "already-given"
    assert world.state(item) == "under_review"


def test_the_verdict_of_a_reviewer_who_was_struck_off_meanwhile_does_not_count(world: ReviewWorld) -> None:
    world.write_policy(needed=2)
    item = world.held_item()
    world.decide(item, "approve", world.jo)
    cy = SigningKey.generate()
    world.write_policy(needed=2, reviewers={"bo": world.bo, "cy": cy})
    assert world.decide(item, "approve", world.bo)["state"] == "under_review"
    assert world.decide(item, "approve", cy)["state"] == "releasing"


def test_a_verdict_survives_a_restart_and_the_second_one_counts(world: ReviewWorld) -> None:
    world.write_policy(needed=2)
    item = world.held_item()
    world.decide(item, "approve", world.jo)
    world.open()
    assert world.decide(item, "approve", world.bo)["state"] == "releasing"


def test_a_crash_between_ledger_and_store_leaves_a_verdict_to_be_given_again(
    world: ReviewWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict and the move that it causes are one: neither is kept without the other."""
    item = world.held_item()

    def killed(*_: object) -> None:
        raise RuntimeError("killed here")

    monkeypatch.setattr("insitu.agent.review_queue._values", killed)
    with pytest.raises(RuntimeError):
        world.decide(item, "approve", world.jo)
    monkeypatch.undo()
    world.open()
    assert world.state(item) == "held"
    assert world.decide(item, "approve", world.jo)["state"] == "releasing"
    assert [entry.decision for entry in world.entries("verdict")] == ["approve", "approve"]


# -- when it is too late, or there is nothing --------------------------------------------------------------------------


def test_a_decided_item_takes_no_further_verdict(world: ReviewWorld) -> None:
    item = world.held_item()
    world.decide(item, "reject", world.jo)
    with pytest.raises(ConflictError) as caught:
        world.decide(item, "approve", world.bo)
    assert caught.value.code == "not-held"
    assert len(world.entries("verdict")) == 1


def test_an_item_of_a_cancelled_job_is_not_decided_any_more(world: ReviewWorld) -> None:
    item = world.held_item()
    world.store.set_over("j-1", 1)
    with pytest.raises(ConflictError) as caught:
        world.decide(item, "approve", world.jo)
    assert caught.value.code == "job-over"


@pytest.mark.parametrize("verdict", ["approve", "resident"])
def test_what_could_not_be_rewritten_can_be_sent_back_but_not_out(world: ReviewWorld, verdict: str) -> None:
    pickle = held(files=(), rule="pickles", hint="save it with skops", findings=())
    item = world.judged(world.attempt(), pickle)
    with pytest.raises(DeniedError) as caught:
        world.decide(item, verdict, world.jo)
    error = caught.value
    assert (error.code, error.rule) == ("nothing-to-release", "pickles")
    assert f"insitu release request-changes {item}" in error.hint
    assert "save it with skops" in error.hint
    assert world.decide(item, "request-changes", world.jo)["state"] == "changes_requested"


def test_a_custom_model_can_not_be_resident_and_it_is_said_what_can(world: ReviewWorld) -> None:
    attempt = world.attempt(outputs={"model": {"type": "custom_model", "register": "weights"}})
    item = world.judged(attempt, held())
    with pytest.raises(DeniedError) as caught:
        world.decide(item, "resident", world.jo)
    error = caught.value
    assert (error.code, error.rule, error.measure) == ("not-a-model", "resident", "custom_model")
    assert "own code" in error.why
    assert f"mlflow_model in skops or ONNX: `insitu release request-changes {item}" in error.hint


@pytest.mark.parametrize("verdict", ["approve", "reject"])
def test_a_model_that_was_decided_to_stay_is_decided_once(world: ReviewWorld, verdict: str) -> None:
    attempt = world.attempt()
    item = world.judged(attempt)
    world.decide(item, "resident", world.jo)
    for _ in range(2):  # before its card is sent, and after
        with pytest.raises(DeniedError) as caught:
            world.decide(item, verdict, world.bo)
        assert (caught.value.code, caught.value.rule) == ("resident", "resident")
        assert caught.value.hint
        world.walk_on(attempt)
    assert world.state(item) == "resident"
    assert not world.hub.uploads


def test_only_a_model_can_be_resident(world: ReviewWorld) -> None:
    attempt = world.attempt(outputs={"table": {"type": "uri_folder"}})
    item = world.judged(attempt, held(name="table"))
    with pytest.raises(DeniedError) as caught:
        world.decide(item, "resident", world.jo)
    assert caught.value.code == "not-a-model"


def test_bytes_that_are_no_verdict_are_refused(world: ReviewWorld) -> None:
    item = world.held_item()
    with pytest.raises((SignatureError, InvalidInputError)):
        world.steward.release_decide(id=item, envelope={"payload": "x"})


# -- who looked --------------------------------------------------------------------------------------------------------


def test_who_looked_is_recorded_by_key_and_counted_in_the_verdicts_entry(world: ReviewWorld) -> None:
    item = world.held_item()
    world.look(item, world.jo)
    world.look(item, world.jo, "diff")
    world.look(item)
    page = world.look(item, SigningKey.generate())
    assert [(view["viewer"], view["what"], view["signed"]) for view in page["views"]] == [
        ("jo", "show", True),
        ("jo", "diff", True),
        ("nobody signed", "show", False),
        ("root (not listed)", "show", True),
    ]
    world.decide(item, "approve", world.jo)
    (entry,) = world.entries("verdict")
    assert entry.counts == {"reviewers_needed": 1, "views": 4, "views_by_reviewer": 2}


def test_a_signature_for_another_item_or_another_hour_is_no_view(world: ReviewWorld) -> None:
    first, second = world.held_item(), world.held_item()
    from insitu.wire.verdicts import ViewDocument, sign_view

    def view(item: str, at: object = None) -> dict[str, object]:
        document = ViewDocument(release_id=item, what="show", viewed_at=at or world.now)  # type: ignore[arg-type]
        return sign_view(document, world.jo).model_dump(mode="json")

    for stale in (view(second), view(first, world.now.replace(hour=1))):
        with pytest.raises(DeniedError) as caught:
            world.steward.release_show(id=first, view=stale)
        assert caught.value.code == "stale-view"
    assert not world.store.queue.views(first)


def _item(world: ReviewWorld, item: str):
    found = world.store.queue.item(item)
    assert found is not None
    return found


def test_an_item_that_the_gate_refused_is_nobodys_to_approve(world: ReviewWorld) -> None:
    item = world.judged(world.attempt(), held(verdict=Verdict.REFUSED, rule="size"))
    with pytest.raises(ConflictError):
        world.decide(item, "approve", world.jo)
