"""A steward changes the policy while a job runs: broken denies and loses nothing, stricter holds at once."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from insitu.gate.policy.loading import policy_schema
from insitu.wire.people import JobView
from tests.rig import World

SCRIPT = """
import json, os, time
print("before the change", flush=True)
time.sleep(4)
print("after the change", flush=True)
os.makedirs("/job/outputs/result")
json.dump({"a": 1}, open("/job/outputs/result/table.json", "w"))
"""
OUTPUTS = "{result: {type: uri_folder, max_bytes: 1kB}}"
RELEASE = (
    "{metrics: {digits: 4, max_count: 5000}, params: {max_bytes: 8kB}, logs: {mode: %s, max_bytes: 256kB}, "
    "errors: type-and-frames, files: {formats: [csv, json], max_bytes: 1MB, otherwise: held}}"
)


@pytest.fixture
def running(world: World) -> Iterator[JobView]:
    """A job that has said its first line and will say another; the policy is mended afterwards."""
    world.write_policy(release=RELEASE % "scanned")
    job = world.alice.submit(world.job_folder(SCRIPT, outputs=OUTPUTS) / "job.yaml")
    world.wait_until(lambda: "before the change" in world.log_text(job.id))
    yield world.alice.job(job.id)
    world.write_policy()


def test_an_editor_finds_the_schema_beside_the_policy_that_init_wrote(world: World) -> None:
    schema = json.loads((world.site.root / "policy.schema.json").read_text())
    assert schema == policy_schema()


def bytes_that_left(world: World, job: JobView) -> int:
    return sum(entry["size_bytes"] for entry in world.ledger_entries() if entry["job_id"] == job.id)


def test_while_the_policy_is_broken_nothing_leaves_and_when_it_is_mended_the_job_goes_on(
    world: World, running: JobView
) -> None:
    before = bytes_that_left(world, running)
    world.site.policy.write_text("version: 8\nsigner: {}\n")
    waiting = world.wait_for_state(running.id, "judging")
    assert (waiting.reason.code, waiting.reason.rule) == ("no-policy", "policy")
    assert "insitu policy check" in waiting.reason.hint
    assert "after the change" not in world.log_text(running.id)
    assert bytes_that_left(world, running) == before
    world.write_policy(version="9", release=RELEASE % "scanned")
    done = world.alice.wait(running.id, timeout_s=60)
    assert done.state == "succeeded", done.reason
    assert "after the change" in world.log_text(running.id)
    assert [output.verdict for output in done.outputs] == ["released"]


def test_a_job_that_waits_for_a_policy_can_be_cancelled(world: World, running: JobView) -> None:
    world.site.policy.unlink()
    world.wait_for_state(running.id, "judging")
    world.alice.cancel(running.id)
    assert world.alice.wait(running.id, timeout_s=60).state == "cancelled"
    assert all(output.verdict != "released" for output in world.alice.job(running.id).outputs)


def test_a_stricter_policy_holds_for_what_the_job_says_from_then_on(world: World, running: JobView) -> None:
    world.write_policy(version="8", release=RELEASE % "held")
    done = world.alice.wait(running.id, timeout_s=60)
    assert done.state == "succeeded", done.reason
    assert "before the change" in world.log_text(running.id)
    assert "after the change" not in world.log_text(running.id)
    assert done.kept["log line, by a newer policy"] == 1
