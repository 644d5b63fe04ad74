from __future__ import annotations

from itertools import product

import pytest

from insitu.domain.deployments import TRANSITIONS, DeploymentState, can_follow, diagram

ALLOWED = {
    "pending": "fetching failed gone stopping",
    "fetching": "starting failed stopping",
    "starting": "healthy fetching failed stopping",
    "healthy": "unhealthy fetching failed stopping",
    "unhealthy": "healthy fetching failed stopping",
    "failed": "stopping gone",
    "stopping": "gone failed pending fetching",
    "gone": "pending",
}


@pytest.mark.parametrize(("before", "after"), list(product(DeploymentState, DeploymentState)))
def test_one_state_follows_another_exactly_where_the_table_says(before, after):
    assert can_follow(before, after) == (after.value in ALLOWED[before].split())


def test_every_state_has_a_row_and_leads_to_gone():
    assert set(TRANSITIONS) == set(DeploymentState)
    for state in DeploymentState:
        reached, pending = {state}, [state]
        while pending:
            new = TRANSITIONS[pending.pop()] - reached
            reached |= new
            pending += new
        assert DeploymentState.GONE in reached


def test_the_diagram_shows_every_transition_once():
    lines = diagram().splitlines()
    arrows = [line for line in lines if "-->" in line and "[*]" not in line]
    assert len(arrows) == len(set(arrows)) == sum(len(after) for after in TRANSITIONS.values())
