"""Between the decision and the sending the policy may have become stricter: then it is the stricter one that counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from insitu.domain.jobs import JobState
from tests.unit.agent.past_world import PastWorld, past_world

TABLE = {"accuracy": 0.9, "folds": [1, 2, 3]}
FILES = "files: {formats: [csv, json], max_bytes: 1MB, otherwise: held}"
RELEASE = (
    "{metrics: {digits: 4, max_count: 5000}, params: {max_bytes: 8kB}, logs: {mode: scanned, max_bytes: 256kB}, %s}"
)


@pytest.fixture
def world(tmp_path: Path) -> PastWorld:
    return past_world(tmp_path)


def test_under_the_policy_that_it_was_judged_under_it_leaves(world: PastWorld) -> None:
    attempt = world.wrote(TABLE)
    assert world.item(attempt).decision["verdict"] == "released"
    assert world.walk_on(attempt) is JobState.SUCCEEDED
    assert len(world.hub.releases) == 1


def test_a_policy_that_changed_and_still_releases_it_lets_it_leave(world: PastWorld) -> None:
    attempt = world.wrote(TABLE)
    world.write_policy(version="8")
    assert world.walk_on(attempt) is JobState.SUCCEEDED
    assert len(world.hub.releases) == 1


@pytest.mark.parametrize(
    ("files", "rule"),
    [
        ("files: {formats: [csv], max_bytes: 1MB, otherwise: held}", "kind"),
        ("files: {formats: [json], max_bytes: 3B, otherwise: held}", "size"),
    ],
)
def test_what_the_stricter_policy_would_not_release_is_held_and_nothing_of_it_leaves(
    world: PastWorld, files: str, rule: str
) -> None:
    attempt = world.wrote(TABLE)
    world.write_policy(version="8", release=RELEASE % files)
    assert world.walk_on(attempt) is JobState.HELD
    assert (world.item(attempt).state, world.item(attempt).decision["rule"]) == ("held", rule)
    assert (world.hub.releases, world.hub.uploads, world.entries("file")) == ([], [], [])


def test_where_it_can_t_be_judged_again_a_person_decides(world: PastWorld) -> None:
    attempt = world.wrote(TABLE)
    world.write_policy(version="8")
    (world.folder.datasets / "wdbc" / "1" / "version.json").unlink()
    assert world.walk_on(attempt) is JobState.HELD
    assert world.item(attempt).decision["rule"] == "not-readable"
    assert world.hub.releases == []


def test_without_a_readable_policy_it_is_held(world: PastWorld) -> None:
    attempt = world.wrote(TABLE)
    world.folder.policy.write_text("version: x\n")
    assert world.walk_on(attempt) is JobState.HELD
    assert world.hub.releases == []


def test_a_reviewer_s_word_stands_whatever_the_policy_says_of_files_now(world: PastWorld) -> None:
    world.write_policy(release=RELEASE % "files: {formats: [csv], max_bytes: 1MB, otherwise: held}")
    attempt = world.wrote(TABLE)
    item = world.item(attempt)
    assert item.state == "held"
    world.steward.release_decide(id=item.id, envelope=world.signed(item.id, "approve", world.jo))
    world.write_policy(version="8", release=RELEASE % "files: {formats: [], max_bytes: 1MB, otherwise: held}")
    assert world.walk_on(attempt) is JobState.SUCCEEDED
    assert len(world.hub.releases) == 1
