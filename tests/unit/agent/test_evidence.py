"""What a reviewer is shown: found, passed and *not checked* are three things, and a difference is one of content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from insitu.agent.evidence import checks
from insitu.agent.run_envelopes import RunEnvelopes
from insitu.domain.outputs import Verdict
from insitu.gate.effort import Effort, Limits
from insitu.gate.inventory import take_inventory
from tests.unit.agent.review_world import ReviewWorld, held


@pytest.fixture
def world(tmp_path: Path) -> ReviewWorld:
    return ReviewWorld(tmp_path / "site")


def _results(page: dict) -> dict[str, str]:
    return {row["rule"]: row["result"] for row in page["checks"]}


def test_what_was_not_checked_is_never_drawn_as_passed(world: ReviewWorld) -> None:
    page = world.look(world.held_item())
    assert _results(page) == {
        "rows-in-model": "found",
        "types": "not checked",
        "declared-only": "passed",
        "pickles": "passed",
    }


def test_a_judge_that_ended_early_has_passed_nothing() -> None:
    rows = checks({"findings": (), "checks": ("size", "types"), "not_checked": ("all",)})
    assert {row["result"] for row in rows} == {"not checked"}


def test_places_that_were_not_searched_are_said_at_the_site_and_not_at_the_hub(world: ReviewWorld) -> None:
    place = "model.skops: array 3: 4 of 32 slices of bits were not searched to their end"
    page = world.look(world.judged(world.attempt(), held(passed_over=(place,))))
    assert page["not_checked"] == ["types", place]
    assert page["decision"]["passed_over"] == [place]
    assert place not in str(world.said.events)


def test_the_page_says_who_asked_what_it_holds_and_what_it_would_cost(world: ReviewWorld) -> None:
    world.write_policy(
        budget="{per_job: 5MB, per_dataset_per_month: 100MB, per_submitter_per_month: 50MB, "
        "ceiling_per_dataset_per_month: 30}"
    )
    attempt = world.attempt(details={"nearest_envelope": "C is outside of its range"})
    page = world.look(world.judged(attempt, held(ceiling_bytes=31)))
    assert page["asked"]["name"] == "alice"
    assert page["asked"]["purpose"] == "screening"
    assert page["run_envelope"] == {"digest": "", "why_none": "C is outside of its range"}
    assert page["contents"] == {"arrays": 1, "numbers": 20, "not_counted": ""}
    lines = {(line["rule"], line["whose"]): line for line in page["budgets"]}
    ceiling = lines["budget.ceiling_per_dataset_per_month", "wdbc"]
    assert (ceiling["before"], ceiling["after"], ceiling["limit"], ceiling["is_over"]) == (0, 31, 30, True)
    size = sum(file["size_bytes"] for file in page["files"])
    assert lines["budget.per_job", ""]["after"] == size
    assert page["last_release"] is None


def test_the_difference_is_to_the_last_release_of_the_same_model(world: ReviewWorld) -> None:
    _let_out(world, rows=4)
    _let_out(world, rows=4, outputs={"model": {"type": "mlflow_model", "register": "another"}})
    page = world.look(world.judged(world.attempt(), rows=4), what="diff")
    assert page["last_release"]["job_id"] == "j-1"
    assert page["arrays"] == {
        "same": 1,
        "changed": 0,
        "reshaped": 0,
        "added": 0,
        "removed": 0,
        "numbers_before": 20,
        "numbers_after": 20,
        "not_counted": "",
    }
    page = world.look(world.judged(world.attempt(), rows=7), what="diff")
    assert (page["arrays"]["changed"], page["arrays"]["reshaped"], page["arrays"]["numbers_after"]) == (1, 1, 35)
    changes = {file["path"]: file["change"] for file in page["files"]}
    assert changes == {"MLmodel": "same", "weights.npy": "changed"}


def test_without_an_earlier_release_everything_is_new(world: ReviewWorld) -> None:
    page = world.look(world.held_item(), what="diff")
    assert page["last_release"] is None
    assert {file["change"] for file in page["files"]} == {"new"}
    assert page["arrays"] is None


def _let_out(world: ReviewWorld, *, rows: int, **document: Any) -> None:
    attempt = world.attempt(**document)
    world.judged(attempt, held(verdict=Verdict.RELEASED, rule="clean", findings=(), not_checked=()), rows=rows)
    world.walk_on(attempt)


def test_the_code_is_compared_with_what_was_let_out_last(world: ReviewWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    _code(world, "a", "print(1)\n")
    _code(world, "b", "print(1)\nprint(2)\n")
    monkeypatch.setattr("insitu.testing.builders.A_CODE", "sha256:" + "a" * 64)
    _let_out(world, rows=4)
    monkeypatch.setattr("insitu.testing.builders.A_CODE", "sha256:" + "b" * 64)
    page = world.look(world.held_item(), what="diff")["code"]
    assert (page["same"], page["diff"]["files"]) == (False, ["train.py"])
    assert "+print(2)" in page["diff"]["lines"]
    monkeypatch.setattr("insitu.testing.builders.A_CODE", "sha256:" + "a" * 64)
    assert world.look(world.held_item(), what="diff")["code"]["same"]


def _changed_code(world: ReviewWorld, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Code `a` was approved in a run envelope; the code of an item that waits is `b`."""
    _code(world, "a", "print(1)\n")
    _code(world, "b", "print(1)\nprint(2)\n")
    monkeypatch.setattr("insitu.testing.builders.A_CODE", "sha256:" + "a" * 64)
    digest = world.cover(world.attempt())
    monkeypatch.setattr("insitu.testing.builders.A_CODE", "sha256:" + "b" * 64)
    return {"digest": digest}


def test_where_nothing_was_let_out_the_code_is_compared_with_a_run_envelopes(
    world: ReviewWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    approved = _changed_code(world, monkeypatch)
    page = world.look(world.held_item(), what="diff")
    assert page["last_release"] is None
    assert page["code"]["approved_by"].startswith(f"run envelope {approved['digest'][7:15]}")
    assert "+print(2)" in page["code"]["diff"]["lines"]
    assert " print(1)" in page["code"]["diff"]["lines"]


def test_a_revoked_run_envelope_approves_no_code(world: ReviewWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    approved = _changed_code(world, monkeypatch)
    RunEnvelopes(world.folder.run_envelopes).revoke(approved["digest"], reason="a fault", now=world.now)
    code = world.look(world.held_item(), what="diff")["code"]
    assert (code["last_approved"], code["approved_by"]) == ("", "")
    assert "+print(1)" in code["diff"]["lines"]


def test_a_run_envelope_for_another_model_is_not_compared_with(
    world: ReviewWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    _changed_code(world, monkeypatch)
    item = world.held_item(outputs={"model": {"type": "mlflow_model", "register": "another"}})
    assert world.look(item)["code"]["approved_by"] == ""


def test_a_release_whose_code_is_gone_gives_way_to_a_run_envelope(
    world: ReviewWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    approved = _changed_code(world, monkeypatch)
    monkeypatch.setattr("insitu.testing.builders.A_CODE", "sha256:" + "c" * 64)
    _let_out(world, rows=4)
    monkeypatch.setattr("insitu.testing.builders.A_CODE", "sha256:" + "b" * 64)
    code = world.look(world.held_item(), what="diff")["code"]
    assert approved["digest"][7:15] in code["approved_by"]


def test_code_that_is_not_in_the_cache_is_said_to_be_not_compared(world: ReviewWorld) -> None:
    assert world.look(world.held_item(), what="diff")["code"]["diff"] is None


def _code(world: ReviewWorld, digit: str, text: str) -> None:
    folder = world.folder.cache / "code" / (digit * 64)
    folder.mkdir(parents=True)
    (folder / "train.py").write_text(text)
    (folder / "data.bin").write_bytes(b"\xff\x00")


# -- counting arrays ---------------------------------------------------------------------------------------------------


def test_arrays_are_told_apart_by_type_shape_and_values(tmp_path: Path) -> None:
    digests = set()
    for number, values in enumerate((np.zeros(4), np.zeros((2, 2)), np.zeros(4, np.float32), np.ones(4))):
        path = tmp_path / f"{number}.npy"
        np.save(path, values)
        (array,) = take_inventory({"a": path.read_bytes()}, Effort()).arrays
        digests.add(array.digest)
    assert len(digests) == 4


def test_what_is_too_much_to_count_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros(1000))
    found = take_inventory({"a": path.read_bytes()}, Effort(Limits(values=10)))
    assert found.ended
