"""A gate process gets ready beside other work; what goes wrong there ends it, and a job never runs without it."""

import pytest

from insitu.domain.errors import UnavailableError
from insitu.intake.client import attach
from tests.unit.intake.served_job import a_pool, a_request


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
    (process,) = pool._waiting
    with pytest.raises(ZeroDivisionError), pool.starting(a_request(tmp_path)):
        raise ZeroDivisionError
    assert process.poll() is not None
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
