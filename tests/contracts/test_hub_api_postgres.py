"""The hub over PostgreSQL: the whole journey of a job, and several hub processes as one hub."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from insitu.hub.loops import write_mlflow
from insitu.wire.people import Role
from tests.contracts.test_hub_api_streams import LIMIT_S, events_of, kinds, until, waiters
from tests.unit.hub.hub_world import Agent, HubWorld, Scientist, a_hub, a_model


@pytest.fixture
def world(tmp_path, postgres_database):
    with a_hub(tmp_path / "hub", database_url=postgres_database) as found:
        yield found


def test_a_job_goes_from_submission_to_a_version(world):
    alice, leeds, mel = world.person("alice"), world.site(), world.person("mel", Role.ML_ENGINEER)
    job_id = a_model(world, alice, leeds)
    write_mlflow.step(world.parts)
    job = alice.job(job_id)
    assert (job["state"], job["run_id"]) == ("succeeded", f"run-of-{job_id}")
    assert world.tracking.runs[job["run_id"]]["end"] == "FINISHED"
    assert alice.get("/api/v1/models/breast-cancer").json()["items"][0]["job_id"] == job_id
    assert kinds(events_of(alice, job_id))[-1] == "state"
    assert mel.post("/api/v1/images", {"model": "breast-cancer", "version": 1}).json()["state"] == "building"
    assert len(alice.get(f"/api/v1/jobs/{job_id}/egress").json()["items"]) == 4


def test_two_hub_processes_over_one_database_are_one_hub(world, tmp_path, postgres_database):
    alice, leeds = world.person("alice"), world.site()
    with a_hub(tmp_path / "hub", database_url=postgres_database) as other, ThreadPoolExecutor() as pool:
        # The agent waits at one process; the job comes to the other.
        there = Agent(HubWorld(**{**other.__dict__, "clock": world.clock}), "leeds", key=leeds.key)
        other.clock.now = world.clock.now
        revision = there.sync().revision
        poll = pool.submit(there.sync, revision=revision, wait_s=LIMIT_S)
        until(lambda: waiters(other, "site:leeds"))
        job_id = alice.submit().json()["id"]
        assert poll.result(LIMIT_S).assignments[0].job_id == job_id
        # And who follows it at one process sees what its agent tells the other.
        following = pool.submit(events_of, alice, job_id)
        there.sync(attempts=[there.holding(job_id)])
        there.state(job_id, "running", "judging", "succeeded")
        assert '"state":"succeeded"' in following.result(LIMIT_S)[-1]["data"]
        assert Scientist(other, "alice", alice.token).job(job_id)["state"] == "succeeded"
