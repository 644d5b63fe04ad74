"""A gate process gets ready beside other work; what goes wrong there ends it, and a job does not go on without it."""

import os

import pytest

from insitu.agent.steps import ready_or_ended
from insitu.domain.errors import UnavailableError
from insitu.intake.client import _readable, attach
from insitu.sandbox.spec import Reason
from tests.sandbox_rig import Rig
from tests.unit.intake.served_job import WAIT_S, ServedJob, a_pool, a_request


def test_a_process_that_is_ready_when_it_is_asked_for_goes_on_serving(tmp_path):
    pool = a_pool()
    with pool.starting(a_request(tmp_path)) as starting:
        handle = starting.ready()
    assert handle.alive()
    handle.kill()
    pool.close()


def test_a_process_is_ended_when_the_work_beside_it_fails(tmp_path):
    pool = a_pool(1)
    pool.fill()
    (waiting,) = pool._waiting
    with pytest.raises(ZeroDivisionError), pool.starting(a_request(tmp_path)):
        raise ZeroDivisionError
    assert waiting.process.poll() is not None
    with pytest.raises(UnavailableError):
        attach(tmp_path / "control")
    pool.close()


def test_a_request_that_is_none_ends_its_process_and_says_so(tmp_path):
    pool = a_pool()
    with pytest.raises(UnavailableError) as failed, pool.starting(a_request(tmp_path, surprise=1)) as starting:
        starting.ready()
    assert failed.value.code == "intake-start"
    assert starting._process.poll() is not None
    pool.close()


def test_what_a_job_says_before_its_process_is_ready_is_heard(tmp_path):
    pool = a_pool()
    with pool.starting(a_request(tmp_path)) as starting:
        out, err = ServedJob.give_streams_in(tmp_path)
        os.write(out, b"epoch 1: loss 0.5\n")
        handle = starting.ready()
    job = ServedJob(tmp_path, handle)
    os.close(out)
    os.close(err)
    handle.finish(timeout_s=WAIT_S)
    assert [event.text for event in job.of_kind("log")] == ["epoch 1: loss 0.5"]
    pool.close()


def test_a_process_stands_back_until_the_code_runs(tmp_path):
    pool = a_pool(1)
    pool.fill()
    with pool.starting(a_request(tmp_path), stand_back_s=WAIT_S / 2) as starting:
        out = starting._process.stdout
        assert out is not None
        assert not _readable(out.fileno(), 1.0)
        assert not (tmp_path / "events.jsonl").exists()
        ServedJob.give_streams_in(tmp_path)
        handle = starting.ready()
    handle.kill()
    pool.close()


def test_a_process_goes_on_when_nobody_comes(tmp_path):
    pool = a_pool()
    with pool.starting(a_request(tmp_path), stand_back_s=0.01) as starting:
        handle = starting.ready()
    assert handle.alive()
    handle.kill()
    pool.close()


def test_an_index_that_is_gone_when_it_is_opened_ahead_troubles_nobody(tmp_path):
    pool = a_pool()
    with pytest.raises(UnavailableError), pool.starting(a_request(tmp_path, index_dirs=["/nowhere"])) as starting:
        starting.ready()
    pool._waiting.append(pool._spawn())
    (tmp_path / "next").mkdir()
    with pool.starting(a_request(tmp_path / "next")) as starting:
        handle = starting.ready()
    assert handle.alive()
    handle.kill()
    pool.close()


def test_a_sandbox_ends_when_its_gate_process_does_not_get_ready(bubblewrap_rig: Rig, tmp_path):
    run = bubblewrap_rig.start("import time; print('here', flush=True); time.sleep(60)")
    run.until_it_says("here")
    pool = a_pool()
    with pytest.raises(UnavailableError) as failed, pool.starting(a_request(tmp_path, surprise=1)) as starting:
        ready_or_ended(run.handle, starting)
    assert failed.value.code == "intake-start"
    assert run.result(timeout_s=0).reason is Reason.STOPPED
    pool.close()


def test_a_socket_that_has_no_place_is_said_before_a_process_is_taken(tmp_path):
    pool = a_pool(1)
    pool.fill()
    (waiting,) = pool._waiting
    with pytest.raises(UnavailableError) as failed, pool.starting(a_request(tmp_path, control="/nowhere/control")):
        pass
    assert failed.value.code == "intake-start"
    assert waiting.process.poll() is None
    pool.close()
