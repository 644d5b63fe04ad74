"""MLflow's record of jobs is written beside them, and not while they start."""

from insitu.hub.loops import write_mlflow


def recorded(monkeypatch, world):
    """(job, how long the loop had waited by then) of what is recorded."""
    waited, jobs = [0.0], []
    monkeypatch.setattr(world.parts.bell, "wait", lambda *given: waited.append(given[-1]))
    monkeypatch.setattr(write_mlflow.recording, "record", lambda _, job: jobs.append((job.job_id, sum(waited))))
    return jobs


def test_a_job_that_was_accepted_this_moment_is_left_alone_at_first(world, alice, leeds, monkeypatch):
    before = alice.submit().json()["id"]
    world.clock.tick(1)
    now = alice.submit().json()["id"]
    jobs = recorded(monkeypatch, world)
    write_mlflow.step(world.parts)
    assert jobs == [(before, 0.0), (now, 0.3)]


def test_a_job_that_ended_at_once_is_not_waited_for(world, alice, leeds, monkeypatch):
    job_id = alice.submit(compute="nowhere").json()["id"]
    assert alice.post(f"/api/v1/jobs/{job_id}/cancel").status_code == 200
    jobs = recorded(monkeypatch, world)
    write_mlflow.step(world.parts)
    assert jobs == [(job_id, 0.0)]
