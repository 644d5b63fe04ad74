"""The tables of states, whole: every pair is allowed or refused, and the pictures show it."""

from __future__ import annotations

import itertools

import pytest

from insitu.domain import deployments, jobs
from insitu.domain.jobs import FINAL, TRANSITIONS, JobState, can_follow, is_final


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


@pytest.mark.parametrize("diagram", [jobs.diagram(), deployments.diagram()])
def test_the_diagrams_are_mermaid(diagram: str) -> None:
    assert diagram.startswith("stateDiagram-v2\n    [*] --> ")
