"""Steps 1 to 5: a signed job is submitted, placed, taken, put ready, and runs sealed off."""

from __future__ import annotations

import pytest

from insitu.domain.errors import InsituError
from insitu.gate.channels.installed_texts import INSTALLED_TEXTS
from insitu.sdk.client import Client
from insitu.sdk.config import Login
from insitu.wire.keys import SigningKey
from tests.rig import World


def test_a_script_s_lines_and_metrics_arrive(world: World) -> None:
    job = world.run(
        """
import os
print("rows", sum(1 for _ in open(os.environ["INSITU_INPUT_PATIENTS"] + "/wdbc.csv")) > 500)
print("key" in os.environ, sorted(os.listdir("/job")))
"""
    )
    assert job.state == "succeeded", (job.reason, world.logs())
    assert world.log_text(job.id) == "rows True\nFalse ['code', 'inputs', 'outputs']"
    assert job.site == "leeds"
    assert job.datasets == ["wdbc@1"]


def test_a_running_job_s_gate_knows_what_its_packages_may_print(world: World) -> None:
    job = world.alice.submit(world.job_folder("import time\nprint('in', flush=True)\ntime.sleep(600)\n") / "job.yaml")
    world.wait_until(lambda: world.log_text(job.id))
    (given,) = world.site.jobs.glob(f"{job.id}-*/**/{INSTALLED_TEXTS}")
    texts = given.read_text().split("\n")
    assert "UserWarning" in texts
    assert any(text.startswith("site-packages/") for text in texts)
    world.alice.cancel(job.id)
    assert world.wait_for_state(job.id, "cancelled").state == "cancelled"


def test_a_followed_job_tells_its_states_and_lines_while_it_runs(world: World) -> None:
    script = "import time\nfor i in range(3):\n    print('line', i)\n    time.sleep(0.3)\n"
    job = world.alice.submit(world.job_folder(script) / "job.yaml")
    seen = [(event.kind, event.text, world.alice.job(job.id).state) for event in world.alice.follow(job.id)]
    while_running = [text for kind, text, state in seen if kind == "log" and state == "running"]
    assert "line 0" in while_running, "it came before the job had ended"
    states = [text for kind, text, _ in seen if kind == "state"]
    assert states[-1] == "succeeded"
    assert states.index("running") < states.index("judging")


def test_a_script_that_fails_tells_type_and_frames_but_not_the_message(world: World) -> None:
    job = world.run("def load():\n    raise ValueError('row 17.99,10.38,122.8')\nload()\n")
    assert (job.state, job.failure, job.reason.code) == ("failed", "script", "script-failed")
    log = world.log_text(job.id)
    assert "ValueError" in log
    assert "train.py" in log
    assert "17.99" not in log
    assert "insitu job logs" in job.reason.hint


def test_a_job_that_runs_too_long_is_ended_and_says_so(world: World) -> None:
    job = world.run("import time\nprint('in')\ntime.sleep(60)\n", timeout="1s")
    assert (job.state, job.failure) == ("failed", "limits")
    assert "time limit" in job.reason.what


def test_a_cancel_is_confirmed_by_the_site_when_the_processes_are_gone(world: World) -> None:
    job = world.alice.submit(world.job_folder("import time\nprint('in', flush=True)\ntime.sleep(600)\n") / "job.yaml")
    world.wait_until(lambda: world.log_text(job.id))
    world.alice.cancel(job.id)
    assert world.wait_for_state(job.id, "cancelled", "failed").state == "cancelled"
    assert not list(world.site.jobs.glob(f"{job.id}-*/keeper/keeper.json")) or world.wait_until(
        lambda: not list(world.site.jobs.glob(f"{job.id}-*"))
    )


def test_a_job_for_a_dataset_that_no_site_has_waits_and_says_so(world: World) -> None:
    folder = world.job_folder("print(1)")
    text = (folder / "job.yaml").read_text().replace("wdbc@1", "payroll@1")
    (folder / "job.yaml").write_text(text)
    job = world.alice.submit(folder / "job.yaml")
    assert job.state == "queued"
    assert job.reason.code == "no_site_has_dataset"
    assert "payroll@1" in job.reason.what
    world.alice.cancel(job.id)
    assert world.wait_for_state(job.id, "cancelled").state == "cancelled"


def test_a_job_signed_by_somebody_whom_the_policy_does_not_list_is_refused_at_the_site(world: World) -> None:
    job = world.clients["jo"].prepare(world.job_folder("print(1)") / "job.yaml")
    with pytest.raises(InsituError) as caught:  # a steward's role may not submit
        world.clients["jo"].submit(job)
    assert caught.value.exit_code in (3, 4)
    stranger = Client(
        Login(world.url, world.clients["admin"].create_token("mallory", "data-scientist").token),  # type: ignore[arg-type]
        SigningKey.generate(),
        cache=world.folder / "cache",
    )
    refused = stranger.submit(world.job_folder("print(1)") / "job.yaml")
    refused = stranger.wait(refused.id, timeout_s=30)
    stranger.close()
    assert (refused.state, refused.reason.code) == ("refused", "unknown-signer")
    assert refused.reason.hint


def test_a_policy_that_breaks_stops_everything_until_it_is_mended(world: World) -> None:
    good = world.site.policy.read_text()
    world.site.policy.write_text(good.replace("signers:", "singers:"))
    try:
        job = world.run("print(1)")
        assert job.state == "refused"
        assert job.reason.rule == "policy"
    finally:
        world.site.policy.write_text(good)
    assert world.run("print(1)").state == "succeeded"
