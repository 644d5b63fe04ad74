"""What agents report and hear: idempotent, fenced, bounded to their own site."""

from base64 import b64decode
from datetime import timedelta

import pytest

from insitu.domain.digests import digest_of
from insitu.wire.sync import HeadProof, head_message
from tests.unit.hub.hub_world import CODE_BYTES, Agent, a_hub, a_ledger, a_running_job

METRIC = {"kind": "metric", "key": "auc", "value": 0.5}


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
def job_id(world, alice, leeds):
    return a_running_job(world, alice, leeds)  # its last event is number 2


def lines_of(alice, job_id):
    return [line["text"] for line in alice.get(f"/api/v1/jobs/{job_id}/logs").json()["items"]]


def line(text):
    return {"kind": "log", "stream": "stdout", "text": text}


# -- assignments -------------------------------------------------------------------------------------------------------


def test_an_assignment_is_offered_until_it_shows_in_a_report_and_stays_until_it_is_over(alice, leeds):
    job_id = alice.submit().json()["id"]
    first = leeds.sync()
    # The reply was lost, or the agent died: the same again, though it claims to have acted on it.
    again = leeds.sync(revision=first.revision, wait_s=5)
    assert first.assignments == again.assignments
    assert leeds.sync(attempts=[leeds.holding(job_id)]).assignments == first.assignments
    assert leeds.sync(attempts=[]).assignments == first.assignments
    leeds.state(job_id, "preparing", "failed", failure="script")
    ended = leeds.sync(attempts=[leeds.holding(job_id)])
    assert (ended.assignments, ended.over) == ([], [job_id])


def test_the_revision_changes_with_what_should_be_and_with_nothing_else(alice, leeds):
    before = leeds.sync().revision
    assert leeds.sync().revision == before
    job_id = alice.submit().json()["id"]
    assigned = leeds.sync(attempts=[leeds.holding(job_id)]).revision
    assert assigned != before
    alice.post(f"/api/v1/jobs/{job_id}/cancel")
    assert leeds.sync(attempts=[leeds.holding(job_id)]).revision not in {before, assigned}


def test_an_assignment_carries_the_envelope_as_it_was_signed(alice, leeds):
    envelope = alice.signed_job()
    alice.submit(envelope)
    assert leeds.sync().assignments[0].envelope == envelope


def test_an_agent_of_another_protocol_is_told_to_upgrade(leeds):
    reply = leeds.post_report(leeds.report(protocol=99))
    assert (reply.status_code, reply.json()["code"]) == (422, "protocol")


def test_of_two_agents_with_one_key_the_older_is_locked_out_and_the_site_alarms(world, leeds):
    copy = Agent(world, "leeds", key=leeds.key, started_at=leeds.started_at + timedelta(minutes=1))
    copy.sync()
    refused = leeds.post_report(leeds.report())
    assert (refused.status_code, refused.json()["code"]) == (409, "two-agents")
    assert "two agents" in world.admin.get("/api/v1/sites/leeds").json()["alarm"]
    copy.sync()


def test_an_agent_whose_clock_went_back_is_let_in_when_the_other_has_been_silent(world, leeds):
    leeds.started_at -= timedelta(days=1)
    assert leeds.post_report(leeds.report()).status_code == 409
    world.clock.tick(46)
    leeds.sync()


def test_datasets_are_shown_as_the_site_offers_them_now(world, alice, leeds):
    offered = alice.get("/api/v1/datasets").json()["items"]
    assert [(one["site"], one["name"], one["version"], one["rows"]) for one in offered] == [
        ("leeds", "wdbc", 1, "100-1k")
    ]
    leeds.sync(datasets=[])
    assert alice.get("/api/v1/datasets").json()["items"] == []


def test_a_site_is_shown_as_its_agent_describes_it(world, leeds):
    site = world.admin.get("/api/v1/sites/leeds").json()
    assert (site["joined"], site["link"], site["sandbox"], site["policy_version"]) == (True, "online", "bubblewrap", 1)
    assert (site["cpus"], site["slots"], site["running"]) == (4, 2, 0)


# -- the ledger's head -------------------------------------------------------------------------------------------------


def test_a_head_is_countersigned_and_comes_back_with_every_reply(world, leeds):
    ledger = a_ledger(3)
    reply = leeds.sync(head=leeds.signed_head(ledger))
    signed = reply.countersigned
    assert (signed.entries, signed.hash, signed.root) == (3, ledger.head.hash, ledger.head.root)
    message = head_message("leeds", 3, ledger.head.hash, ledger.head.root)
    world.parts.key.public.check(b64decode(signed.signature), message)
    assert leeds.sync().countersigned == signed
    assert world.admin.get("/api/v1/sites/leeds").json()["ledger_entries"] == 3


def test_a_longer_head_is_countersigned_when_it_begins_with_the_one_before(world, leeds):
    leeds.sync(head=leeds.signed_head(a_ledger(3)))
    assert leeds.sync(**leeds.grown(a_ledger(11), since=3)).countersigned.entries == 11
    assert world.admin.get("/api/v1/sites/leeds").json()["alarm"] == ""


def test_a_longer_head_without_its_proof_is_left_alone(world, leeds):
    """The agent learns from the reply which head it has to begin with; so does one that was started anew."""
    leeds.sync(head=leeds.signed_head(a_ledger(3)))
    assert leeds.sync(head=leeds.signed_head(a_ledger(5))).countersigned.entries == 3
    assert leeds.sync(**leeds.grown(a_ledger(5), since=2)).countersigned.entries == 3
    assert world.admin.get("/api/v1/sites/leeds").json()["alarm"] == ""


def test_a_rewritten_ledger_is_not_countersigned_and_alarms(world, leeds):
    kept = leeds.sync(head=leeds.signed_head(a_ledger(3))).countersigned
    assert leeds.sync(**leeds.grown(a_ledger(9, "other"), since=3)).countersigned == kept
    assert "are not those countersigned" in world.admin.get("/api/v1/sites/leeds").json()["alarm"]


@pytest.mark.parametrize("steps", [["zz"], ["00"], []])
def test_a_proof_that_proves_nothing_countersigns_nothing(world, leeds, steps):
    leeds.sync(head=leeds.signed_head(a_ledger(3)))
    proof = HeadProof(since=3, steps=steps)
    assert leeds.sync(head=leeds.signed_head(a_ledger(5)), head_proof=proof).countersigned.entries == 3


@pytest.mark.parametrize(("entries", "word"), [(2, ""), (3, "other")])
def test_a_head_that_goes_back_or_forks_is_refused_and_alarms(world, leeds, entries, word):
    kept = leeds.sync(head=leeds.signed_head(a_ledger(3))).countersigned
    assert leeds.sync(head=leeds.signed_head(a_ledger(entries, word))).countersigned == kept
    assert "went back" in world.admin.get("/api/v1/sites/leeds").json()["alarm"]


def test_a_head_that_the_site_did_not_sign_is_refused(world, leeds):
    turin = world.site("turin")
    foreign = turin.signed_head(a_ledger(9))
    for forged in (foreign, foreign.model_copy(update={"signature": "?"})):
        reply = leeds.post_report(leeds.report(head=forged))
        assert (reply.status_code, reply.json()["code"]) == (403, "bad-signature")
    assert leeds.sync().countersigned is None


# -- events ------------------------------------------------------------------------------------------------------------


def test_a_batch_that_comes_twice_changes_nothing(alice, leeds, job_id):
    for _ in range(2):
        assert leeds.tell(job_id, line("a"), line("b"), first=3) == 4
    assert lines_of(alice, job_id) == ["a", "b"]


def test_of_a_batch_that_overlaps_only_the_new_part_is_kept(alice, leeds, job_id):
    leeds.tell(job_id, line("a"), line("b"), first=3)
    assert leeds.tell(job_id, line("b"), line("c"), first=4) == 5
    assert lines_of(alice, job_id) == ["a", "b", "c"]


def test_a_gap_is_answered_with_where_to_go_on(alice, leeds, job_id):
    assert leeds.tell(job_id, line("later"), first=9) == 2
    assert lines_of(alice, job_id) == []


def test_a_gap_inside_a_batch_keeps_what_is_before_it(alice, leeds, job_id):
    at = leeds.world.clock().isoformat()
    events = [{"at": at, "seq": seq, **line(str(seq))} for seq in (3, 4, 6)]
    body = {"job_id": job_id, "attempt": 1, "fence": 1, "entry": 1, "size_bytes": 1, "events": events}
    assert leeds.call("POST", "/agent/v1/events", json=body).json() == {"acknowledged": 4}
    assert lines_of(alice, job_id) == ["3", "4"]


def test_states_that_were_passed_while_nobody_heard_are_skipped(alice, leeds):
    job_id = alice.submit().json()["id"]
    leeds.state(job_id, "releasing")
    assert alice.job(job_id)["state"] == "releasing"


def test_a_state_that_lies_behind_changes_nothing_and_is_not_shown(alice, leeds, job_id):
    cursor = alice.get(f"/api/v1/jobs/{job_id}/logs").json()
    leeds.state(job_id, "preparing", "assigned", "queued", "running")
    assert alice.job(job_id)["state"] == "running"
    leeds.tell(job_id, line("next"))
    assert alice.get(f"/api/v1/jobs/{job_id}/logs").json() != cursor
    # queued, assigned, preparing, running: and nothing for the four above
    assert alice.get(f"/api/v1/jobs/{job_id}/logs").json()["items"][0]["seq"] == 5


def test_a_job_ends_once(alice, leeds, job_id):
    leeds.state(job_id, "failed", failure="script", what="first")
    leeds.state(job_id, "succeeded", "cancelled")
    job = alice.job(job_id)
    assert (job["state"], job["reason"]["what"]) == ("failed", "first")


def test_what_arrives_after_the_end_is_kept_all_the_same(alice, leeds, job_id):
    leeds.state(job_id, "judging", "succeeded")
    leeds.tell(job_id, line("late"))
    assert lines_of(alice, job_id) == ["late"]


@pytest.mark.parametrize(
    ("attempt", "fence", "status", "code"),
    [(1, 0, 409, "fenced"), (0, 1, 409, "fenced"), (1, 2, 403, "not-your-job"), (2, 1, 403, "not-your-job")],
)
def test_another_fence_or_attempt_is_refused_and_changes_nothing(alice, leeds, job_id, attempt, fence, status, code):
    before = alice.job(job_id)
    reply = leeds.post_events(job_id, [{"kind": "state", "state": "failed"}], first=3, attempt=attempt, fence=fence)
    assert (reply.status_code, reply.json()["code"]) == (status, code)
    assert alice.job(job_id) == before


def test_an_event_of_an_unknown_kind_or_field_is_refused_whole(alice, leeds, job_id):
    for event in ({"kind": "file", "path": "/etc/passwd"}, {**METRIC, "row": [1, 2]}):
        reply = leeds.post_events(job_id, [line("ok"), event], first=3)
        assert (reply.status_code, reply.json()["code"]) == (422, "invalid-request")
    assert lines_of(alice, job_id) == []
    assert "passwd" not in reply.text


def test_egress_lists_what_came_with_its_ledger_entries(alice, leeds, job_id):
    leeds.tell(job_id, METRIC, line("x"), entry=7, size_bytes=123)
    items = alice.get(f"/api/v1/jobs/{job_id}/egress").json()["items"]
    assert (items[-1]["name"], items[-1]["size_bytes"], items[-1]["entry"]) == ("log,metric", 123, 7)
    assert alice.job(job_id)["egress_bytes"] == sum(item["size_bytes"] for item in items)


def test_the_meter_tells_channels_and_room_while_a_job_runs(alice, leeds, job_id):
    before = alice.get(f"/api/v1/jobs/{job_id}/meter").json()
    leeds.tell(job_id, METRIC, METRIC, entry=7, size_bytes=100)
    leeds.tell(job_id, line("x"), METRIC, {"kind": "kept", "what": "artifact", "count": 3}, entry=8, size_bytes=90)
    told = alice.get(f"/api/v1/jobs/{job_id}/meter").json()
    sizes = {one["channel"]: one["left_bytes"] for one in told["channels"]}
    assert {one["channel"]: one["entries"] for one in told["channels"]} == {"metric": 3, "log": 1}
    assert sum(sizes.values()) == 190 == told["left_bytes"] - before["left_bytes"]
    assert sizes["metric"] > 100


def test_what_the_site_itself_says_is_a_channel_of_its_own(alice, leeds, job_id):
    """Whoever reads that three log lines left where none may leave would look for a leak."""
    note = {"kind": "log", "stream": "site", "text": "at least 1 × log line stayed at the site"}
    leeds.tell(job_id, note, entry=7, size_bytes=80)
    leeds.tell(job_id, line("x"), note, entry=8, size_bytes=100)
    told = alice.get(f"/api/v1/jobs/{job_id}/meter").json()
    assert {one["channel"]: one["entries"] for one in told["channels"]} == {"log": 1, "note": 2}
    assert lines_of(alice, job_id) == [note["text"], "x", note["text"]]


def test_the_meter_of_a_job_that_is_not_there_is_not_there(alice):
    assert alice.get("/api/v1/jobs/j-none/meter").status_code == 404


# -- blobs and uploads -------------------------------------------------------------------------------------------------

DATA = bytes(range(256)) * 40
DIGEST = digest_of(DATA)


def offset_of(agent, digest=DIGEST):
    reply = agent.call("HEAD", f"/agent/v1/uploads/{digest}")
    return int(reply.headers["upload-offset"]), reply.headers["upload-complete"]


def send(agent, data, offset, length=len(DATA), digest=DIGEST):
    headers = {"Upload-Offset": str(offset), "Upload-Length": str(length)}
    return agent.call("POST", f"/agent/v1/uploads/{digest}", content=data, headers=headers)


def test_an_upload_goes_on_where_it_stopped(leeds):
    assert offset_of(leeds) == (0, "?0")
    assert send(leeds, DATA[:1000], 0).headers["upload-offset"] == "1000"
    assert offset_of(leeds) == (1000, "?0")
    assert send(leeds, DATA[1000:], 1000).headers["upload-complete"] == "?1"
    assert offset_of(leeds) == (len(DATA), "?1")


def test_a_wrong_offset_is_answered_with_the_right_one_and_changes_nothing(leeds):
    send(leeds, DATA[:1000], 0)
    for offset in (0, 999, 1001, len(DATA)):
        reply = send(leeds, b"zzz", offset)
        assert (reply.status_code, reply.json()["code"]) == (409, "wrong-offset")
        assert reply.headers["upload-offset"] == "1000"
    send(leeds, DATA[1000:], 1000)
    assert offset_of(leeds) == (len(DATA), "?1")


def test_an_upload_that_is_not_its_digest_is_dropped_and_begins_anew(leeds):
    reply = send(leeds, b"z" * len(DATA), 0)
    assert (reply.status_code, reply.json()["code"]) == (422, "digest-mismatch")
    assert offset_of(leeds) == (0, "?0")


def test_an_upload_that_is_there_is_complete_at_once(world, leeds):
    send(leeds, DATA, 0)
    assert send(leeds, DATA, 0).status_code == 204
    assert offset_of(world.site("turin")) == (0, "?0")


def test_an_empty_file_is_uploaded_like_any_other(leeds):
    empty = digest_of(b"")
    assert send(leeds, b"", 0, length=0, digest=empty).headers["upload-complete"] == "?1"
    assert offset_of(leeds, empty) == (0, "?1")


def test_an_upload_that_was_whole_when_the_hub_stopped_is_found(world, leeds):
    with world.parts.blobs.piece("leeds", DIGEST, offset=0, length=len(DATA)) as piece:
        piece.write(DATA)
    assert offset_of(leeds) == (len(DATA), "?1")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Upload-Offset": "0"},
        {"Upload-Offset": "-1", "Upload-Length": "5"},
        {"Upload-Offset": "0", "Upload-Length": "1e9"},
    ],
)
def test_an_upload_without_its_headers_is_refused(leeds, headers):
    reply = leeds.call("POST", f"/agent/v1/uploads/{DIGEST}", content=DATA, headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (422, "upload-header")


def test_a_download_goes_on_where_it_stopped(leeds, job_id):
    from tests.unit.hub.hub_world import CODE

    reply = leeds.call("GET", f"/agent/v1/blobs/{CODE}", headers={"Range": "bytes=5-"})
    assert (reply.status_code, reply.content) == (206, CODE_BYTES[5:])
