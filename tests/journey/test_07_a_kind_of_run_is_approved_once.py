"""A reviewer approves a kind of run once: a job inside is released by itself, one outside waits and says what differs.

The commands are run as people run them, each with their own key.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from insitu.wire.people import JobView
from tests.rig import World

SCRIPT = """
import json, os, sys
os.makedirs("/job/outputs/model")
json.dump({"coefficients": [float(sys.argv[1]), 2.5], "intercept": 0.25}, open("/job/outputs/model/model.json", "w"))
"""
RELEASE = (
    "{metrics: {digits: 4, max_count: 5000}, params: {max_bytes: 8kB}, logs: {mode: scanned, max_bytes: 256kB}, "
    "models: {formats: [json], max_bytes: 1MB, ceiling: 4kB, free_ceiling: 0, otherwise: held}}"
)


@pytest.fixture(scope="module", autouse=True)
def strict(world: World) -> Iterator[None]:
    """No model of code that nobody has approved leaves without a person."""
    world.write_policy(version="20", release=RELEASE)
    yield
    world.write_policy(version="21")


@pytest.fixture(scope="module")
def jobs(world: World) -> dict[str, Any]:
    """One folder of code, one job file, and what the steps leave for each other."""
    folder = world.job_folder(
        SCRIPT, command="python train.py ${{inputs.C}}", outputs="{model: {type: custom_model, max_bytes: 10kB}}"
    )
    path = folder / "job.yaml"
    path.write_text(path.read_text().replace("inputs:\n", "inputs:\n  C: 1.0\n"))
    return {"file": path, "submitted": []}


def insitu(world: World, *words: str, key: str = "jo") -> subprocess.CompletedProcess[str]:
    config = world.folder / f"config-{key}"
    if not config.exists():
        config.mkdir(mode=0o700)
        world.keys[key].save(config / "key")
    environment = {**os.environ, "INSITU_CONFIG": str(config), "INSITU_SITE_DIR": str(world.site.root)}
    argv = [sys.executable, "-m", "insitu.cli", *words]
    return subprocess.run(argv, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, check=False)


def said(world: World, *words: str, key: str = "jo") -> Any:
    done = insitu(world, *words, "--json", key=key)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def submit(world: World, jobs: dict[str, Any], C: float) -> JobView:
    job = world.alice.submit(jobs["file"], changes={"inputs.C": str(C)})
    jobs["submitted"].append(job.id)
    return world.alice.wait(job.id, timeout_s=90)


def released(world: World, job: JobView) -> list[dict[str, Any]]:
    return [one for one in world.ledger_entries() if one["kind"] == "file" and one["job_id"] == job.id]


def test_1_a_model_of_code_that_nobody_approved_is_held_and_the_hint_says_how_to_go_on(
    world: World, jobs: dict[str, Any]
) -> None:
    job = submit(world, jobs, 1.0)
    assert (job.state, job.outputs[0].verdict, job.outputs[0].rule) == ("held", "held", "ceiling"), job.outputs
    assert "insitu envelope" in job.outputs[0].hint
    jobs["first"] = job.id


def test_2_a_reviewer_sees_in_words_what_would_be_allowed_before_signing(world: World, jobs: dict[str, Any]) -> None:
    shown = insitu(world, "envelope", "create", "--job", jobs["first"], "--param", "C=0.1..10", "--dry-run").stdout
    for words in ("C          0.1 to 10", "patients   wdbc@1", "jobs of   alice", "custom_model, at most 10 kB"):
        assert words in shown, shown
    assert said(world, "envelope", "list") == []


def test_3_the_data_scientist_can_t_approve_it(world: World, jobs: dict[str, Any]) -> None:
    denied = insitu(world, "envelope", "create", "--job", jobs["first"], key="alice")
    assert denied.returncode == 3
    assert "unknown-reviewer" in denied.stderr
    assert said(world, "envelope", "list") == []


def test_4_a_reviewer_approves_it_once(world: World, jobs: dict[str, Any]) -> None:
    made = said(world, "envelope", "create", "--job", jobs["first"], "--param", "C=0.1..10", "--runs", "2")
    assert (made["state"], made["signed_by"], made["runs"]) == ("in force", ["jo"], 0)
    jobs["envelope"] = made["id"]


@pytest.mark.parametrize("C", [0.1, 10])
def test_5_a_job_inside_needs_no_new_click(world: World, jobs: dict[str, Any], C: float) -> None:
    job = submit(world, jobs, C)
    assert (job.state, job.outputs[0].verdict) == ("succeeded", "released"), job.outputs
    (entry,) = released(world, job)
    assert entry["run_envelope"] == jobs["envelope"]
    assert 0 < entry["ceiling_bytes"] <= 4000


def test_6_when_its_runs_are_used_up_the_next_job_waits_and_says_so(world: World, jobs: dict[str, Any]) -> None:
    job = submit(world, jobs, 5)
    assert job.state == "held"
    assert "nearest run envelope: 'test'; 2 runs so far, allowed 2 runs" in job.outputs[0].hint
    assert [one["state"] for one in said(world, "envelope", "list")] == ["used up"]


def test_7_a_job_outside_still_runs_and_says_what_differs(world: World, jobs: dict[str, Any]) -> None:
    wider = said(world, "envelope", "create", "--job", jobs["first"], "--param", "C=0.1..10", "--runs", "50")
    job = submit(world, jobs, 30)
    assert (job.state, job.reason.rule) == ("held", "ceiling")
    assert job.outputs[0].hint.endswith("C = 30, allowed 0.1 to 10")
    assert released(world, job) == []
    assert said(world, "envelope", "show", wider["id"], "--job", job.id)["job"]["outside"] == [
        "C = 30, allowed 0.1 to 10"
    ]
    jobs["wider"] = wider["id"]


def test_8_other_code_under_the_same_command_is_outside(world: World, jobs: dict[str, Any]) -> None:
    script = jobs["file"].parent / "train.py"
    before = script.read_text()
    script.write_text(before + "# another line\n")
    job = submit(world, jobs, 1.0)
    script.write_text(before)
    assert job.state == "held"
    assert "code sha256:" in job.outputs[0].hint


def test_9_a_revoked_one_covers_nothing_more(world: World, jobs: dict[str, Any]) -> None:
    assert submit(world, jobs, 2).state == "succeeded"
    assert said(world, "envelope", "revoke", jobs["wider"][:20], "--reason", "a fault")["state"] == "revoked"
    job = submit(world, jobs, 2)
    assert job.state == "held"
    assert "it was revoked" in job.outputs[0].hint


def test_a_new_policy_is_tried_on_the_site_s_past(world: World, jobs: dict[str, Any]) -> None:
    new = world.folder / "new.yaml"
    new.write_text(world.site.policy.read_text().replace("ceiling: 4kB", "ceiling: 1B").replace("runs: 50", "runs: 60"))
    changed = said(world, "policy", "diff", str(new))
    assert (changed["looser"], changed["stricter"]) == (1, 1)
    # The world is the whole journey's: before these there were jobs of other steps.
    found = said(world, "policy", "test", str(new), "--last", str(len(jobs["submitted"])))
    assert {one["job"] for one in found["jobs"]} == set(jobs["submitted"])
    by_job = {one["job"]: one["outputs"][0] for one in found["jobs"]}
    inside = [one for one in by_job.values() if one["then"] == "released"]
    assert len(inside) == 3
    assert {(one["now"], one["now_rule"], one["how"]) for one in inside} == {("held", "ceiling", "judged again")}
    assert by_job[jobs["first"]]["now"] == "held"
    assert "would have been otherwise" in insitu(world, "policy", "test", str(new), "--last", "3").stdout
