"""The tables of states, whole: every pair is allowed or refused, and the pictures show it."""

from __future__ import annotations

import itertools

import pytest

from insitu.domain import deployments, jobs, reviews
from insitu.domain.jobs import FINAL, TRANSITIONS, JobState, can_follow, is_final
from insitu.domain.outputs import Verdict
from insitu.domain.reviews import ItemState, ReviewVerdict


@pytest.mark.parametrize(("before", "after"), list(itertools.product(JobState, JobState)))
def test_each_pair_of_states_is_allowed_or_not(before: JobState, after: JobState) -> None:
    assert can_follow(before, after) == (after in TRANSITIONS[before])


def test_nothing_follows_a_final_state() -> None:
    assert {state for state in JobState if not TRANSITIONS[state]} == FINAL


def test_every_state_can_be_reached_and_left() -> None:
    reached = {JobState.QUEUED}
    while True:
        more = {after for before in reached for after in TRANSITIONS[before]} - reached
        if not more:
            break
        reached |= more
    assert reached == set(JobState)
    for state in JobState:
        assert is_final(state) or TRANSITIONS[state]


def test_a_cancelled_job_may_come_from_every_state_that_waits_or_runs() -> None:
    for state in set(JobState) - FINAL - {JobState.RELEASING}:
        assert can_follow(state, JobState.CANCELLED), state


@pytest.mark.parametrize("diagram", [jobs.diagram(), reviews.diagram(), deployments.diagram()])
def test_the_diagrams_are_mermaid(diagram: str) -> None:
    assert diagram.startswith("stateDiagram-v2\n    [*] --> ")


# -- judged outputs ----------------------------------------------------------------------------------------------------


def test_every_state_of_a_judged_output_can_be_reached() -> None:
    reached = set(reviews.FIRST_STATE.values())
    for _ in ItemState:
        reached |= {after for before in reached for after in reviews.TRANSITIONS[before]}
    assert reached == set(ItemState)


def test_nothing_leaves_but_by_way_of_the_ledger() -> None:
    """Only `releasing` leads to `released`, and only `announcing` to `resident`: the states in which entries are written."""
    for after, before in ((ItemState.RELEASED, ItemState.RELEASING), (ItemState.RESIDENT, ItemState.ANNOUNCING)):
        assert {state for state in ItemState if reviews.can_follow(state, after)} == {before}
    assert set(reviews.FIRST_STATE) == set(Verdict)


@pytest.mark.parametrize("verdicts", list(itertools.product(ReviewVerdict, repeat=2)))
def test_an_output_leaves_when_everybody_who_was_asked_approves_and_not_else(
    verdicts: tuple[ReviewVerdict, ...],
) -> None:
    after = reviews.state_after(verdicts, needed=2)
    assert (after is ItemState.RELEASING) == (set(verdicts) == {ReviewVerdict.APPROVE})
    assert reviews.state_after(verdicts[:1], needed=2) is ItemState.UNDER_REVIEW
    assert after is reviews.state_after(verdicts[::-1], needed=2)
