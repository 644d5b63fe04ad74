"""What waits: agents' long polls, and people who follow a job. Over real connections."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from insitu.hub.api import streams
from insitu.wire.sync import SyncReply
from insitu.wire.tokens import issue_agent_token
from tests.unit.hub.hub_world import a_hub, a_running_job

LIMIT_S = 30  # how long a test waits for what should happen at once


@pytest.fixture
def world(tmp_path):
    with a_hub(tmp_path / "hub") as found:
        yield found


@pytest.fixture
def alice(world):
    return world.person("alice")


@pytest.fixture
def leeds(world):
    return world.site()


@pytest.fixture
def pool():
    with ThreadPoolExecutor() as found:
        yield found


def waiters(world, topic):
    return world.parts.bell.waiting(topic)


def until(condition):
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


# -- long polls --------------------------------------------------------------------------------------------------------


def waiting_poll(world, pool, agent, **changes):
    """A poll that has nothing to hear yet, once it really waits."""
    revision = agent.sync(**changes).revision
    poll = pool.submit(agent.sync, revision=revision, wait_s=LIMIT_S, **changes)
    until(lambda: waiters(world, f"site:{agent.name}"))
    return poll


def test_a_waiting_agent_is_woken_by_a_job(world, pool, alice, leeds):
    poll = waiting_poll(world, pool, leeds)
    job_id = alice.submit().json()["id"]
    assert [one.job_id for one in poll.result(LIMIT_S).assignments] == [job_id]


def test_a_waiting_agent_is_woken_by_a_cancellation(world, pool, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    poll = waiting_poll(world, pool, leeds, attempts=[leeds.holding(job_id)])
    alice.post(f"/api/v1/jobs/{job_id}/cancel")
    assert poll.result(LIMIT_S).assignments[0].cancel


def test_another_sites_job_does_not_end_a_poll(world, pool, alice, leeds):
    turin = world.site("turin")
    poll = waiting_poll(world, pool, leeds)
    alice.submit(compute="turin")
    assert turin.sync().assignments
    assert not poll.done()
    world.parts.bell.close()
    assert poll.result(LIMIT_S).assignments == []


def test_a_poll_ends_when_its_time_is_up(leeds):
    before = leeds.sync()
    assert leeds.sync(revision=before.revision, wait_s=0.05).revision == before.revision


def test_a_job_is_not_lost_in_a_poll_whose_agent_hung_up(world, pool, alice, leeds):
    revision = leeds.sync().revision
    token = issue_agent_token("leeds", leeds.key, now=world.clock())
    body = leeds.report(revision=revision, wait_s=LIMIT_S).model_dump_json()
    with httpx.Client(base_url=world.client.base_url) as dying:
        begun = pool.submit(
            dying.post, "/agent/v1/sync", content=body, headers={"Authorization": f"Bearer {token}"}, timeout=0.3
        )
        until(lambda: waiters(world, "site:leeds"))
        with pytest.raises(httpx.ReadTimeout):
            begun.result(LIMIT_S)
    # The hub notices that nobody listens any more, and holds nothing for it.
    until(lambda: not waiters(world, "site:leeds"))
    job_id = alice.submit().json()["id"]
    assert leeds.sync(revision=revision).assignments[0].job_id == job_id


def test_polls_that_wait_cost_no_threads(world, leeds):
    revision = leeds.sync().revision
    token = issue_agent_token("leeds", leeds.key, now=world.clock())
    body = leeds.report(revision=revision, wait_s=LIMIT_S).model_dump_json()
    count = 150
    before = threading.active_count()
    limits = httpx.Limits(max_connections=count)
    headers = {"Authorization": f"Bearer {token}"}
    with (
        httpx.Client(base_url=world.client.base_url, limits=limits, headers=headers, timeout=60) as client,
        ThreadPoolExecutor(count) as pool,
    ):
        polls = [pool.submit(client.post, "/agent/v1/sync", content=body) for _ in range(count)]
        until(lambda: waiters(world, "site:leeds") == count)
        # Ours, and at most the hub's pool of 64, which idles; not one for each.
        assert threading.active_count() - before - count <= 64
        world.parts.bell.close()
        for poll in polls:
            assert SyncReply.model_validate_json(poll.result(LIMIT_S).content).revision == revision


def test_a_hub_that_stops_lets_everybody_go_at_once(tmp_path):
    with ThreadPoolExecutor() as pool:
        with a_hub(tmp_path / "hub") as world:
            alice, leeds = world.person("alice"), world.site()
            job_id = a_running_job(world, alice, leeds)
            poll = waiting_poll(world, pool, leeds, attempts=[leeds.holding(job_id)])
            stream = pool.submit(events_of, alice, job_id)
            until(lambda: waiters(world, f"job:{job_id}"))
        # `a_hub` fails when the hub does not stop in time; here both got an orderly end.
        assert poll.result(LIMIT_S).assignments
        assert [event["event"] for event in stream.result(LIMIT_S)][-1] == "state"


# -- following a job ---------------------------------------------------------------------------------------------------


def events_of(person, job_id, *, last_id="", stop_after=None):
    """The events of a job's stream until it ends, or as many as are asked for."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    return told(person, "GET", f"/api/v1/jobs/{job_id}/events", headers, stop_after=stop_after)[1]


def told(person, method, path, headers, *, stop_after=None, **more):
    """The status of a stream, and its events until it ends, or as many as are asked for."""
    headers = {"Authorization": f"Bearer {person.token}", **headers}
    found, fields = [], {}
    url = f"{person.world.client.base_url}{path}"
    with httpx.stream(method, url, headers=headers, timeout=LIMIT_S, **more) as reply:
        assert reply.status_code in {200, 201, 204}, reply.status_code
        for line in reply.iter_lines():
            if line:
                name, _, value = line.partition(":")
                fields[name] = value.strip()
            elif "data" in fields:
                found.append(fields)
                if stop_after is not None and len(found) == stop_after:
                    break
                fields = {}
            else:
                fields = {}
        return reply.status_code, found


def kinds(events):
    return [event["event"] for event in events]


def test_a_stream_tells_all_in_order_and_ends_with_the_job(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    leeds.tell(
        job_id,
        {"kind": "log", "stream": "stdout", "text": "epoch 1"},
        {"kind": "param", "key": "C", "value": "1"},
        {"kind": "metric", "key": "auc", "value": 0.9},
        {"kind": "decision", "output": "model", "verdict": "released", "rule": "clean"},
    )
    leeds.state(job_id, "judging", "succeeded")
    events = events_of(alice, job_id)
    assert kinds(events) == ["state", "state", "state", "state", "log", "metric", "decision", "state", "state"]
    ids = [int(event["id"]) for event in events]
    assert ids == sorted(set(ids))
    assert '"state":"succeeded"' in events[-1]["data"]


def test_an_event_is_seen_when_it_happens_and_not_when_the_job_ends(world, pool, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    seen = pool.submit(events_of, alice, job_id, stop_after=5)
    until(lambda: waiters(world, f"job:{job_id}"))
    leeds.tell(job_id, {"kind": "log", "stream": "stdout", "text": "now"})
    assert '"text":"now"' in seen.result(LIMIT_S)[-1]["data"]


def test_a_stream_goes_on_after_the_last_event_that_was_seen(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    leeds.tell(job_id, *({"kind": "log", "stream": "stdout", "text": str(n)} for n in range(10)))
    leeds.state(job_id, "failed", failure="script")
    everything = events_of(alice, job_id)
    for position in (1, 5, len(everything) - 1):
        assert events_of(alice, job_id, last_id=everything[position - 1]["id"]) == everything[position:]
    assert events_of(alice, job_id, last_id=everything[-1]["id"]) == []


def test_a_stream_ends_while_a_steward_is_awaited_and_goes_on_after(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    leeds.state(job_id, "judging", "held")
    held = events_of(alice, job_id)
    assert '"state":"held"' in held[-1]["data"]
    leeds.state(job_id, "refused", rule="reviewer", what="a steward said no")
    assert '"state":"refused"' in events_of(alice, job_id, last_id=held[-1]["id"])[-1]["data"]


def test_an_attempt_that_is_tried_again_does_not_look_like_the_end(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds, retries=1)
    leeds.state(job_id, "failed", failure="lost", what="gone")
    events = events_of(alice, job_id, stop_after=5)
    assert '"state":"queued"' in events[-1]["data"]
    assert '"code":"retrying"' in events[-1]["data"]
    assert all('"state":"failed"' not in event["data"] for event in events)


def test_many_batches_are_streamed_without_a_gap(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    for start in range(130):
        leeds.tell(job_id, *({"kind": "log", "stream": "stdout", "text": f"{start}.{n}"} for n in range(3)))
    leeds.state(job_id, "failed", failure="script")
    ids = [int(event["id"]) for event in events_of(alice, job_id)]
    assert ids == list(range(1, len(ids) + 1))


def test_who_follows_while_batches_come_sees_each_event_once_and_in_order(world, pool, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    seen = [pool.submit(events_of, alice, job_id) for _ in range(2)]
    until(lambda: waiters(world, f"job:{job_id}") == 2)
    for start in range(40):
        leeds.tell(job_id, *({"kind": "log", "stream": "stdout", "text": f"{start}.{n}"} for n in range(3)))
    leeds.state(job_id, "failed", failure="script")
    for events in (one.result(LIMIT_S) for one in seen):
        assert [int(event["id"]) for event in events] == list(range(1, len(events) + 1))
        assert '"state":"failed"' in events[-1]["data"]
        assert sum('"text":"39.2"' in event["data"] for event in events) == 1


@pytest.mark.parametrize("last_id", ["x", "-1", "9" * 40])
def test_an_id_that_is_none_is_refused(world, alice, leeds, last_id):
    job_id = a_running_job(world, alice, leeds)
    reply = alice.call("GET", f"/api/v1/jobs/{job_id}/events", headers={"Last-Event-ID": last_id})
    assert (reply.status_code, reply.json()["code"]) == (422, "bad-cursor")


def test_a_job_that_is_not_there_has_no_stream(alice):
    assert alice.get("/api/v1/jobs/j-nope/events").json()["code"] == "no-such-job"


# -- submitting a job and following it by the same answer --------------------------------------------------------------


def submitted(person, envelope, *, stop_after=None):
    body = {"envelope": envelope.model_dump(mode="json")}
    headers = {"Accept": "text/event-stream"}
    return told(person, "POST", "/api/v1/jobs", headers, json=body, stop_after=stop_after)


def an_accepted_job(alice):
    """One whose code and lock are at the hub."""
    alice.submit()
    return alice.signed_job()


def test_a_submission_can_be_answered_by_the_job_and_what_becomes_of_it(world, pool, alice, leeds):
    envelope = an_accepted_job(alice)
    seen = pool.submit(submitted, alice, envelope)
    until(lambda: len(alice.get("/api/v1/jobs").json()["items"]) == 2)
    job_id = alice.get("/api/v1/jobs").json()["items"][0]["id"]
    until(lambda: waiters(world, f"job:{job_id}"))
    leeds.sync()
    leeds.state(job_id, "preparing", "running")
    leeds.tell(job_id, {"kind": "log", "stream": "stdout", "text": "now"})
    leeds.state(job_id, "failed", failure="script")
    status, (first, *events) = seen.result(LIMIT_S)
    assert status == 201
    assert first["event"] == "job"
    assert "id" not in first, "who connects again would ask for what is after it"
    assert f'"id":"{job_id}"' in first["data"]
    assert '"state":"assigned"' in first["data"]
    assert events == events_of(alice, job_id)


def test_what_happens_while_a_submission_is_answered_is_not_missed(world, alice, leeds, monkeypatch):
    envelope = an_accepted_job(alice)
    monkeypatch.setattr(streams, "_PING_S", 2 * LIMIT_S)  # who missed it would find it then
    followed = streams.followed

    def answer_late(parts, job_id, begun, **more):
        # Between the look at the job's events and the first byte of the answer.
        original = world.parts.store._announced

        def committed():
            original()
            world.parts.store._announced = original
            leeds.sync()
            leeds.state(job_id, "preparing", "running", "failed", failure="script")

        monkeypatch.setattr(world.parts.store, "_announced", committed)
        return followed(parts, job_id, begun, **more)

    monkeypatch.setattr(streams, "followed", answer_late)
    _, (_, *events) = submitted(alice, envelope)
    assert [json.loads(event["data"])["state"] for event in events] == [
        "queued",
        "assigned",
        "preparing",
        "running",
        "failed",
    ]


def test_the_same_submission_again_tells_the_same_stream(world, alice, leeds):
    envelope = an_accepted_job(alice)
    status, first = submitted(alice, envelope, stop_after=3)
    job_id = json.loads(first[0]["data"])["id"]
    leeds.sync()
    leeds.state(job_id, "preparing", "running", "failed", failure="script")
    again, (job, *events) = submitted(alice, envelope)
    assert (status, again) == (201, 200)
    assert json.loads(job["data"])["state"] == "failed"
    assert events == events_of(alice, job_id)


def test_a_submission_that_is_refused_is_no_stream(alice):
    body = {"envelope": alice.signed_job().model_dump(mode="json")}
    reply = alice.call("POST", "/api/v1/jobs", json=body, headers={"Accept": "text/event-stream"})
    assert (reply.status_code, reply.json()["code"]) == (409, "missing-blobs")
