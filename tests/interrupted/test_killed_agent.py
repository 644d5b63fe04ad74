"""The agent is killed with SIGKILL anywhere in a job's life; started again, the job ends once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from insitu.sandbox.contract import SandboxSettings, open_sandbox
from tests.rig import Process, World, running_world

SCRIPT = """
import json, os, time, urllib.request
def log(key, value, step):
    body = json.dumps({"run_id": os.environ["MLFLOW_RUN_ID"], "key": key, "value": value, "timestamp": 0, "step": step})
    url = os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/runs/log-metric"
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request).read()
for step in range(10):
    log("training_loss", 1.0 / (step + 1), step)
    print("epoch", step)
    time.sleep(0.1)
out = os.environ["INSITU_OUTPUTS"] + "/report"
os.makedirs(out)
with open(out + "/report.json", "w") as f:
    json.dump({"epochs": 10}, f)
"""

OUTPUTS = "{report: {type: uri_folder}}"

POINTS = [
    *(
        f"{point}:{state}"
        for state in ("preparing", "running", "judging", "releasing", "succeeded")
        for point in ("before-saying", "before-saving", "after-saving")
    ),
    "before-going:-",
    "after-going:-",
    "after-ledger:-",
    "after-sending:-",
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, base_layout: Path) -> Iterator[World]:
    with running_world(tmp_path_factory.mktemp("world"), base_layout) as running:
        yield running


@pytest.mark.parametrize("point", POINTS)
def test_a_job_ends_once_wherever_the_agent_was_killed(world: World, point: str) -> None:
    world.stop_agent()
    dying = Process(
        "tests.interrupted.dying_agent",
        *("--die", point, "--dir", str(world.site.root)),
        log=world.folder / "agent.log",
    )
    job = world.alice.submit(world.job_folder(SCRIPT, outputs=OUTPUTS) / "job.yaml")
    world.wait_until(lambda: not dying.alive, timeout_s=60, what=lambda: f"it did not die at {point}")

    world.start_agent()
    ended = world.wait_for_state(job.id, "succeeded", "failed", "refused", "cancelled")

    assert ended.state == "succeeded", (ended.reason, world.logs())
    assert ended.attempt == 1
    assert [line.text for line in world.alice.logs(job.id)] == [f"epoch {step}" for step in range(10)]
    points = [(point.step, point.value) for point in world.alice.metrics(job.id)]
    assert points == [(step, float(f"{1.0 / (step + 1):.4g}")) for step in range(10)]
    files = [entry for entry in world.ledger_entries() if entry["kind"] == "file" and entry["job_id"] == job.id]
    assert len(files) == 1, "one output, one entry"
    assert [output.verdict for output in ended.outputs] == ["released"]
    _nothing_is_left(world, job.id)


def _nothing_is_left(world: World, job_id: str) -> None:
    sandbox = open_sandbox(world.sandbox, SandboxSettings(state_dir=world.site.run / "sandbox"))
    world.wait_until(
        lambda: not [name for name in sandbox.running() if job_id in name], what=lambda: "a sandbox is left"
    )
    world.wait_until(lambda: not list(world.site.jobs.iterdir()), what=lambda: str(list(world.site.jobs.iterdir())))


def test_an_agent_that_is_stopped_leaves_the_job_running_and_takes_it_up_again(world: World) -> None:
    job = world.alice.submit(world.job_folder(SCRIPT.replace("range(10)", "range(30)")) / "job.yaml")
    world.wait_until(lambda: len(world.alice.logs(job.id)) >= 3)
    world.stop_agent()
    world.start_agent()
    ended = world.wait_for_state(job.id, "succeeded", "failed")
    assert ended.state == "succeeded", ended.reason
    assert [line.text for line in world.alice.logs(job.id)] == [f"epoch {step}" for step in range(30)]


def test_a_hub_that_was_away_hears_everything_once_and_in_order(world: World) -> None:
    job = world.alice.submit(world.job_folder(SCRIPT.replace("range(10)", "range(40)")) / "job.yaml")
    world.wait_until(lambda: len(world.alice.logs(job.id)) >= 3)
    port = world.url.rpartition(":")[2]
    world.hub.kill()
    world.hub = Process(
        "insitu.hub.main",
        *("--data", str(world.folder / "hub"), "--port", port),
        log=world.folder / "hub.log",
    )
    ended = world.wait_for_state(job.id, "succeeded", "failed", timeout_s=90)
    assert ended.state == "succeeded", ended.reason
    assert [line.text for line in world.alice.logs(job.id)] == [f"epoch {step}" for step in range(40)]
