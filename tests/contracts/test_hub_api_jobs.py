"""Jobs through the API: accepted once, placed at once, moved along by their site, cancelled, tried again."""

import pytest

from insitu.domain.digests import digest_of
from insitu.wire.jobs import DatasetPin
from insitu.wire.keys import SigningKey
from insitu.wire.sync import Capacity
from tests.unit.hub.hub_world import CODE, CODE_BYTES, LOCK, a_hub, a_job, a_running_job


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


def post(person, envelope):
    return person.post("/api/v1/jobs", {"envelope": envelope.model_dump(mode="json")})


# -- accepting ---------------------------------------------------------------------------------------------------------


def test_a_job_that_fits_is_assigned_in_the_answer_to_its_submission(world, alice, leeds):
    reply = alice.submit()
    assert reply.status_code == 201
    job = reply.json()
    assert (job["state"], job["site"], job["attempt"]) == ("assigned", "leeds", 1)
    assert (job["name"], job["experiment"], job["submitter"]) == ("wdbc-logistic", "breast-cancer", "alice")
    assert (job["code"], job["lock"], job["datasets"]) == (CODE, LOCK, ["wdbc@1"])
    assert leeds.sync().assignments[0].job_id == job["id"]


def test_the_same_envelope_again_is_the_same_job(world, alice):
    envelope = alice.signed_job()
    first = alice.submit(envelope)
    again = post(alice, envelope)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    world.clock.tick(30 * 86400)
    assert post(alice, envelope).status_code == 200  # what was accepted does not expire
    assert len(alice.get("/api/v1/jobs").json()["items"]) == 1


def test_blobs_that_are_missing_are_listed_and_the_same_post_then_works(alice):
    envelope = alice.signed_job()
    refused = post(alice, envelope)
    assert (refused.status_code, refused.json()["code"]) == (409, "missing-blobs")
    assert refused.json()["missing"] == sorted([CODE, LOCK])
    alice.put_blob(CODE_BYTES)
    assert post(alice, envelope).json()["missing"] == [LOCK]
    assert alice.submit(envelope).status_code == 201


def test_bytes_that_are_not_their_digest_are_refused(alice):
    reply = alice.call("PUT", f"/api/v1/blobs/{CODE}", content=b"something else")
    assert (reply.status_code, reply.json()["code"]) == (422, "digest-mismatch")
    assert alice.call("HEAD", f"/api/v1/blobs/{CODE}").status_code == 404


def test_a_job_must_be_signed_by_the_key_that_its_submitter_registered(world, alice):
    alice.submit()
    other = SigningKey.generate()
    forged = a_job(submitter="alice", key=other, now=world.clock())
    reply = post(alice, forged)
    assert (reply.status_code, reply.json()["code"]) == (403, "not-your-signature")
    assert reply.json()["measure"] == other.fingerprint


def test_an_altered_envelope_is_refused(world, alice):
    alice.submit()
    envelope = alice.signed_job()
    another = a_job(submitter="alice", key=SigningKey.generate(), now=world.clock(), command="python evil.py")
    altered = envelope.model_copy(update={"payload": another.payload})
    assert (post(alice, altered).status_code, post(alice, altered).json()["code"]) == (403, "bad-signature")


def test_a_job_in_anothers_name_is_refused(world, alice):
    envelope = a_job(submitter="bob", key=alice.key, now=world.clock())
    assert post(alice, envelope).json()["code"] == "not-your-name"


def test_nobody_submits_before_they_registered_a_key(world, alice):
    reply = world.admin.post("/api/v1/tokens", {"name": "carol", "role": "data-scientist"})
    carol = type(alice)(world, "carol", reply.json()["token"])
    assert post(carol, carol.signed_job()).json()["code"] == "no-key"


def test_an_expired_document_is_refused(world, alice):
    envelope = alice.signed_job()
    world.clock.tick(8 * 86400)
    assert (alice.submit(envelope).status_code, alice.submit(envelope).json()["code"]) == (403, "expired")


def test_an_unknown_field_in_a_signed_job_is_named(world, alice):
    from insitu.wire.envelopes import seal
    from insitu.wire.jobs import JOB_TYPE, JobDocument, read_job_document

    class Wider(JobDocument):
        surprise: str = "boo"

    import base64
    import json

    envelope = alice.signed_job()
    payload = json.loads(base64.b64decode(envelope.payload))
    wider = Wider.model_validate({**read_job_document(payload).model_dump(), "surprise": "boo"})
    reply = post(alice, seal(JOB_TYPE, wider, alice.key))
    assert (reply.status_code, reply.json()["exit_code"]) == (422, 2)
    assert "surprise" in reply.json()["what"]


# -- waiting -----------------------------------------------------------------------------------------------------------


def test_a_job_that_no_site_can_take_waits_and_says_why(world, alice):
    job = alice.submit().json()
    assert job["state"] == "queued"
    assert job["reason"]["code"] == "no_site_has_dataset"
    assert "wdbc@1" in job["reason"]["what"]
    assert job["reason"]["hint"]


def test_a_waiting_job_is_placed_when_a_site_reports_what_it_needs(world, alice):
    job_id = alice.submit().json()["id"]
    leeds = world.site()
    assert leeds.sync().assignments[0].job_id == job_id
    assert alice.job(job_id)["state"] == "assigned"


def test_a_full_site_gets_no_more_until_it_has_room(world, alice, leeds):
    leeds.sync(capacity=Capacity(cpus=4, memory_bytes=8 << 30, slots=1))
    first, second = (alice.submit().json() for _ in range(2))
    assert (first["state"], second["state"]) == ("assigned", "queued")
    assert second["reason"]["code"] == "no_room"
    # The agent reports the first as running: its room is what it says, counted once.
    holding = [leeds.holding(first["id"])]
    assert len(leeds.sync(attempts=holding, capacity=Capacity(cpus=3, memory_bytes=7 << 30, slots=0)).assignments) == 1
    leeds.state(first["id"], "running", "judging", "succeeded")
    reply = leeds.sync(capacity=Capacity(cpus=4, memory_bytes=8 << 30, slots=1))
    assert [one.job_id for one in reply.assignments] == [second["id"]]


def test_a_site_out_of_reach_gets_no_jobs_and_keeps_its_own(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    world.clock.tick(46)
    assert world.admin.get("/api/v1/sites/leeds").json()["link"] == "away"
    job = alice.job(job_id)
    assert (job["state"], job["link"]) == ("running", "away")
    waiting = alice.submit().json()
    assert (waiting["state"], waiting["reason"]["code"]) == ("queued", "site_away")
    assert waiting["id"] in {one.job_id for one in leeds.sync(attempts=[leeds.holding(job_id)]).assignments}
    assert alice.job(job_id)["link"] == ""


def test_a_site_without_a_readable_policy_gets_no_jobs(world, alice, leeds):
    leeds.sync(policy_version=0)
    job = alice.submit().json()
    assert job["state"] == "queued"
    assert "policy" in job["reason"]["hint"]


def test_a_dataset_that_changed_since_it_was_signed_is_not_used(world, alice, leeds):
    pin = DatasetPin(input="patients", name="wdbc", version=1, digest=digest_of(b"another table"))
    job = alice.submit(datasets=[pin]).json()
    assert (job["state"], job["reason"]["code"]) == ("queued", "no_site_has_dataset")
    assert "digest" in job["reason"]["what"]


# -- running -----------------------------------------------------------------------------------------------------------


def test_a_jobs_metrics_params_tags_and_logs_are_shown_as_they_come(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds, tags={"purpose": "screening"})
    leeds.tell(
        job_id,
        {"kind": "metric", "key": "auc", "value": 0.8, "step": 1, "timestamp_ms": 1},
        {"kind": "metric", "key": "auc", "value": 0.9, "step": 2, "timestamp_ms": 2},
        {"kind": "metric", "key": "auc", "value": 0.1, "run": "child"},
        {"kind": "param", "key": "C", "value": "1.0"},
        {"kind": "tag", "key": "note", "value": "x"},
        {"kind": "log", "stream": "stdout", "text": "epoch 1"},
        {"kind": "kept", "what": "metric", "count": 3},
        {"kind": "kept", "what": "metric", "count": 2},
    )
    job = alice.job(job_id)
    assert job["metrics"] == {"auc": 0.9}
    assert job["params"] == {"C": "1.0"}
    assert job["tags"] == {"purpose": "screening", "note": "x"}
    assert job["kept"] == {"metric": 5}
    lines = alice.get(f"/api/v1/jobs/{job_id}/logs").json()["items"]
    assert [line["text"] for line in lines] == ["epoch 1"]
    points = alice.get(f"/api/v1/jobs/{job_id}/metrics").json()["items"]
    assert [(point["value"], point["run"]) for point in points] == [(0.8, ""), (0.9, ""), (0.1, "child")]
    assert alice.get(f"/api/v1/jobs/{job_id}/logs?after={lines[-1]['seq']}").json()["items"] == []


def test_metrics_that_are_no_numbers_arrive_and_are_shown(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    for key, value in (("loss", "NaN"), ("gap", "Infinity"), ("auc", 0.5)):
        leeds.tell(job_id, {"kind": "metric", "key": key, "value": value})
    assert alice.job(job_id)["metrics"] == {"loss": "NaN", "gap": "Infinity", "auc": 0.5}
    points = alice.get(f"/api/v1/jobs/{job_id}/metrics").json()["items"]
    assert [float(point["value"]) for point in points][1:] == [float("inf"), 0.5]


def test_a_failed_job_shows_whose_turn_it_is(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    leeds.state(
        job_id,
        "failed",
        failure="script",
        code="script-failed",
        what="ValueError in train.py:7",
        hint="see logs",
    )
    job = alice.job(job_id)
    assert (job["state"], job["failure"]) == ("failed", "script")
    assert "exit_code" not in job
    assert job["reason"]["what"] == "ValueError in train.py:7"
    assert job["ended_at"]


@pytest.mark.parametrize("failure", ["sandbox", "environment", "data", "lost", "limits", "script"])
def test_a_failed_attempt_is_tried_again_with_a_new_fence(world, alice, leeds, failure):
    job_id = a_running_job(world, alice, leeds, retries=1)
    leeds.state(job_id, "failed", failure=failure, what="it broke")
    job = alice.job(job_id)
    assert job["state"] == "queued"
    assert "attempt 1 failed" in job["reason"]["what"]
    # Room did not change; the loop that places would find it. Here a report that brings news does.
    assignment = leeds.sync(capacity=Capacity(cpus=3, memory_bytes=8 << 30, slots=2)).assignments[0]
    assert (assignment.attempt, assignment.job_id) == (2, job_id)
    assert assignment.fence > 1
    again = {"attempt": 2, "fence": assignment.fence}
    leeds.tell(job_id, {"kind": "state", "state": "failed", "failure": failure}, first=1, **again)
    assert alice.job(job_id)["state"] == "failed"


def test_what_a_policy_refused_is_not_tried_again(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds, retries=3)
    leeds.state(job_id, "failed", failure="policy", what="the policy says no")
    assert alice.job(job_id)["state"] == "failed"


def test_an_old_attempt_can_change_nothing(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds, retries=1)
    leeds.state(job_id, "failed", failure="lost")
    late = leeds.post_events(job_id, [{"kind": "metric", "key": "auc", "value": 1.0}])
    assert (late.status_code, late.json()["code"]) == (409, "fenced")
    assert alice.job(job_id)["metrics"] == {}


# -- cancelling --------------------------------------------------------------------------------------------------------


def test_a_waiting_job_is_cancelled_at_once(world, alice):
    job_id = alice.submit().json()["id"]
    assert alice.post(f"/api/v1/jobs/{job_id}/cancel").json()["state"] == "cancelled"
    assert alice.post(f"/api/v1/jobs/{job_id}/cancel").status_code == 200  # asking twice is no mistake
    world.site()
    assert alice.job(job_id)["state"] == "cancelled"


def test_a_running_job_is_cancelled_when_its_site_says_so(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    job = alice.post(f"/api/v1/jobs/{job_id}/cancel").json()
    assert (job["state"], job["cancel_requested"]) == ("running", True)
    assert leeds.sync(attempts=[leeds.holding(job_id)]).assignments[0].cancel
    leeds.state(job_id, "cancelled")
    assert alice.job(job_id)["state"] == "cancelled"
    assert leeds.sync(attempts=[leeds.holding(job_id)]).over == [job_id]


def test_a_cancelled_job_that_fails_is_not_tried_again(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds, retries=5)
    alice.post(f"/api/v1/jobs/{job_id}/cancel")
    leeds.state(job_id, "failed", failure="lost")
    assert alice.job(job_id)["state"] == "failed"


def test_a_job_that_has_ended_can_not_be_cancelled(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    leeds.state(job_id, "failed", failure="script")
    assert alice.post(f"/api/v1/jobs/{job_id}/cancel").json()["code"] == "job-ended"


# -- looking -----------------------------------------------------------------------------------------------------------


def test_jobs_are_listed_newest_first_page_by_page(world, alice):
    ids = [alice.submit().json()["id"] for _ in range(5)]
    first = alice.get("/api/v1/jobs?limit=2").json()
    second = alice.get(f"/api/v1/jobs?limit=2&after={first['next']}").json()
    last = alice.get(f"/api/v1/jobs?limit=2&after={second['next']}").json()
    listed = [job["id"] for page in (first, second, last) for job in page["items"]]
    assert listed == ids[::-1]
    assert last["next"] == ""


def test_jobs_are_listed_by_state(world, alice):
    cancelled, queued = (alice.submit().json()["id"] for _ in range(2))
    alice.post(f"/api/v1/jobs/{cancelled}/cancel")
    of_state = lambda state: [job["id"] for job in alice.get(f"/api/v1/jobs?state={state}").json()["items"]]  # noqa: E731
    assert of_state("cancelled") == [cancelled]
    assert of_state("queued") == [queued]
    assert len(alice.get("/api/v1/jobs?state=queued&state=cancelled").json()["items"]) == 2
    assert alice.get("/api/v1/jobs?state=asleep").status_code == 422
