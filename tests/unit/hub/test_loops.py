"""Loops go on: woken, failing, or left alone."""

import threading

from insitu.domain.errors import UnavailableError
from insitu.hub.loops import notice_sites, place_jobs
from insitu.hub.loops.base import Loop, LoopThread
from tests.unit.hub.hub_world import a_running_job

LIMIT_S = 30


def played(world, steps):
    """Run a loop through these steps, woken for each; returns when the last has been taken."""
    done, left = threading.Event(), list(steps)

    def step(parts):
        outcome = left.pop(0)
        if not left:
            done.set()
        if outcome is not None:
            raise outcome

    thread = LoopThread(Loop("test", "topic", 0.001, step), world.parts)
    thread.start()
    assert done.wait(LIMIT_S)
    world.parts.bell.close()
    thread.join(LIMIT_S)


def test_a_loop_that_fails_goes_on(world, caplog):
    played(world, [UnavailableError("the registry is away"), ZeroDivisionError(), None])
    assert "the registry is away" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_ring_wakes_a_loop_long_before_its_time(world):
    taken = threading.Semaphore(0)
    thread = LoopThread(Loop("test", "topic", 3600, lambda _: taken.release()), world.parts)
    thread.start()
    for _ in range(3):
        assert taken.acquire(timeout=LIMIT_S)
        world.parts.bell.ring("topic")
    world.parts.bell.close()
    thread.join(LIMIT_S)


def test_what_waits_is_placed_when_an_attempt_is_due_again(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds, retries=1)
    leeds.state(job_id, "failed", failure="lost")
    assert alice.job(job_id)["state"] == "queued"
    place_jobs.step(world.parts)
    job = alice.job(job_id)
    assert (job["state"], job["attempt"]) == ("assigned", 2)


def test_reasons_of_waiting_follow_what_goes_on(world, alice):
    job_id = alice.submit(compute="leeds").json()["id"]
    assert alice.job(job_id)["reason"]["code"] == "no_such_site"
    leeds = world.site()
    leeds.sync(datasets=[])
    # Placed when the site reported for the first time; so this one waits behind another of its kind.
    waiting = alice.submit(compute="leeds").json()["id"]
    assert alice.job(waiting)["reason"]["code"] == "no_site_has_dataset"
    world.clock.tick(60)
    place_jobs.step(world.parts)
    assert alice.job(waiting)["reason"]["code"] == "no_site_has_dataset"


def test_a_site_that_falls_silent_is_said_once(world, leeds, caplog):
    loop = notice_sites.NoticeSites()
    loop.step(world.parts)
    for _ in range(3):
        world.clock.tick(30)
        loop.step(world.parts)
    assert [record.message for record in caplog.records].count(
        f"site leeds is out of reach: nothing heard for {world.settings.away_after}"
    ) == 1
