"""The client's own promises: what it uploads, how it follows, which error it raises. The hub is a function."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import insitu.sdk.job_events as events_module
from insitu.domain.digests import Digest, digest_of
from insitu.domain.errors import AuthenticationError, DeniedError, InvalidInputError, NotFoundError, UnreachableError
from insitu.sdk.client import Client
from insitu.sdk.config import Login
from insitu.sdk.submit import PreparedJob
from insitu.testing.builders import A_BASE, A_LOCK, NOON
from insitu.wire.job_file import load_job_file
from insitu.wire.jobs import Target, open_job
from insitu.wire.keys import SigningKey
from insitu.wire.people import ImageView, JobRequest, ModelVersionView

KEY = SigningKey.generate()
WHEN = "2026-11-23T12:00:00Z"
CODE = b"print(1)"

Answer = Callable[[httpx.Request], httpx.Response]


def a_client(answer: Answer, tmp_path: Path) -> Client:
    def hub(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/v1/whoami":
            return httpx.Response(200, json={"name": "alice", "role": "data-scientist", "key": KEY.fingerprint})
        return answer(request)

    login = Login(hub="http://hub.test", token="secret")
    return Client(login, KEY, cache=tmp_path, carrier=httpx.MockTransport(hub))


def a_job_view(**changes: Any) -> dict[str, Any]:
    return {"id": "j-1", "name": "job", "state": "running", "created_at": WHEN} | changes


def a_prepared_job() -> PreparedJob:
    job = load_job_file("{command: python train.py, environment: {requirements: requirements.txt}}")
    target = Target(base=A_BASE, python="3.11", platform="x86_64-linux", lock=A_LOCK)
    code = digest_of(CODE)
    return PreparedJob(job=job, code=code, targets=(target,), pins=(), blobs={code: CODE})


def test_bytes_that_the_hub_lacks_are_uploaded_and_the_same_envelope_is_sent_again(tmp_path):
    sent: list[JobRequest] = []
    uploaded: dict[str, bytes] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            uploaded[request.url.path.rpartition("/")[2]] = request.content
            return httpx.Response(204)
        sent.append(JobRequest.model_validate_json(request.content))
        if not uploaded:
            return httpx.Response(409, json={"code": "missing-blobs", "missing": [digest_of(CODE)]})
        return httpx.Response(201, json=a_job_view(state="queued"))

    job = a_client(answer, tmp_path).submit(a_prepared_job())
    assert job.state == "queued"
    assert uploaded == {digest_of(CODE): CODE}
    assert sent[0] == sent[1], "another nonce would make it another job"
    assert open_job(sent[0].envelope, signers={"alice": KEY.fingerprint}).document.submitter == "alice"


def test_a_hub_that_asks_for_bytes_that_are_no_part_of_the_job_gets_none(tmp_path):
    other = digest_of(b"something else on this machine")

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.method == "POST", "nothing is uploaded"
        return httpx.Response(409, json={"code": "missing-blobs", "missing": [other]})

    with pytest.raises(InvalidInputError) as raised:
        a_client(answer, tmp_path).submit(a_prepared_job())
    assert raised.value.code == "odd-blob"


def an_event(number: int, text: str) -> str:
    return f"id: {number}\nevent: log\ndata: {json.dumps({'text': text})}\n\n"


def test_following_goes_on_after_the_last_event_when_the_connection_breaks(tmp_path, monkeypatch):
    monkeypatch.setattr(events_module, "_RECONNECT_S", 0)
    asked_after: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/events"):
            return httpx.Response(200, json=a_job_view(state="succeeded"))
        asked_after.append(request.headers.get("last-event-id"))
        if len(asked_after) == 2:
            raise httpx.ConnectError("the hub restarts")
        first = len(asked_after) == 1
        broken = _broken(an_event(1, "one") + an_event(2, "two"))
        return httpx.Response(200, stream=broken) if first else httpx.Response(200, text=an_event(3, "three"))

    events = [event.text for event in a_client(answer, tmp_path).follow("j-1")]
    assert events == ["one", "two", "three"]
    assert asked_after == [None, "2", "2"]


def as_submitted(*events: str) -> str:
    return f"retry: 1000\n\nevent: job\ndata: {json.dumps(a_job_view(state='queued'))}\n\n{''.join(events)}"


def test_a_job_is_submitted_and_followed_by_one_request(tmp_path):
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.path}")
        if request.method == "POST":
            assert request.headers["accept"] == "text/event-stream"
            told = as_submitted(an_event(3, "one"))
            return httpx.Response(201, text=told, headers={"Content-Type": "text/event-stream; charset=utf-8"})
        return httpx.Response(200, json=a_job_view(state="succeeded"))

    with a_client(answer, tmp_path).submit_and_follow(a_prepared_job()) as (job, events):
        assert (job.id, job.state) == ("j-1", "queued")
        assert [event.text for event in events] == ["one"]
    assert asked == ["POST /api/v1/jobs", "GET /api/v1/jobs/j-1"]


def test_what_the_hub_lacks_is_uploaded_before_a_job_is_followed(tmp_path):
    uploaded: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            uploaded.append(request.content)
            return httpx.Response(204)
        if request.method == "GET":
            return httpx.Response(200, json=a_job_view(state="held"))
        if not uploaded:
            return httpx.Response(409, json={"code": "missing-blobs", "missing": [digest_of(CODE)]})
        return httpx.Response(201, text=as_submitted(), headers={"Content-Type": "text/event-stream"})

    with a_client(answer, tmp_path).submit_and_follow(a_prepared_job()) as (_, events):
        assert list(events) == []
    assert uploaded == [CODE]


def test_a_stream_that_broke_after_the_submission_is_taken_up_again(tmp_path, monkeypatch):
    monkeypatch.setattr(events_module, "_RECONNECT_S", 0)
    asked_after: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            stream = _broken(as_submitted(an_event(1, "one")))
            return httpx.Response(201, stream=stream, headers={"Content-Type": "text/event-stream"})
        if request.url.path.endswith("/events"):
            asked_after.append(request.headers.get("last-event-id"))
            return httpx.Response(200, text=an_event(2, "two"))
        return httpx.Response(200, json=a_job_view(state="succeeded"))

    with a_client(answer, tmp_path).submit_and_follow(a_prepared_job()) as (_, events):
        assert [event.text for event in events] == ["one", "two"]
    assert asked_after == ["1"]


def test_a_submission_whose_answer_breaks_off_says_so(tmp_path):
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(201, text="retry: 1000\n\n", headers={"Content-Type": "text/event-stream"})

    with pytest.raises(UnreachableError), a_client(answer, tmp_path).submit_and_follow(a_prepared_job()):
        pass


def test_a_hub_that_answers_with_the_job_alone_is_asked_for_its_events(tmp_path):
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return httpx.Response(200, text=an_event(1, "one"))
        return httpx.Response(200, json=a_job_view(state="succeeded"))

    with a_client(answer, tmp_path).submit_and_follow(a_prepared_job()) as (job, events):
        assert [job.id, *(event.text for event in events)] == ["j-1", "one"]


class _broken(httpx.SyncByteStream):  # noqa: N801 - a function in its use
    def __init__(self, text: str) -> None:
        self._text = text

    def __iter__(self):
        yield self._text.encode()
        raise httpx.ReadError("cut")


def test_a_stream_that_ends_while_the_job_runs_is_taken_up_again(tmp_path, monkeypatch):
    monkeypatch.setattr(events_module, "_RECONNECT_S", 0)
    streams = [an_event(1, "one"), an_event(2, "two")]
    states = ["running", "held"]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return httpx.Response(200, text=streams.pop(0))
        return httpx.Response(200, json=a_job_view(state=states.pop(0)))

    assert [event.text for event in a_client(answer, tmp_path).follow("j-1")] == ["one", "two"]


def test_a_hub_that_stays_away_is_an_error_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(events_module, "_RECONNECT_S", 0)
    monkeypatch.setattr(events_module, "_PATIENCE_S", -1)

    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("away")

    with pytest.raises(UnreachableError) as raised:
        list(a_client(answer, tmp_path).follow("j-1"))
    assert raised.value.exit_code == 6


@pytest.mark.parametrize(
    ("status", "document", "error", "exit_code"),
    [
        (403, {"code": "role", "what": "no", "rule": "role", "exit_code": 3}, DeniedError, 3),
        (404, {"code": "no-such-job", "what": "none", "exit_code": 5}, NotFoundError, 5),
        (401, {"code": "unknown-token", "what": "who?"}, AuthenticationError, 4),
        (422, {"code": "bad-name", "what": "no", "exit_code": 2}, InvalidInputError, 2),
    ],
)
def test_what_the_hub_refuses_is_raised_as_what_it_is(tmp_path, status, document, error, exit_code):
    client = a_client(lambda _: httpx.Response(status, json=document), tmp_path)
    with pytest.raises(error) as raised:
        client.job("j-1")
    assert raised.value.code == document["code"]
    assert raised.value.exit_code == exit_code


def test_an_answer_that_is_no_problem_document_is_an_error_all_the_same(tmp_path):
    client = a_client(lambda _: httpx.Response(502, text="<html>a proxy</html>"), tmp_path)
    with pytest.raises(Exception, match="502"):
        client.job("j-1")


def test_a_name_can_not_lead_to_another_address_of_the_hub(tmp_path):
    asked: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path)
        return httpx.Response(404, json={"code": "no", "what": "no", "exit_code": 5})

    with pytest.raises(NotFoundError):
        a_client(answer, tmp_path).job("../tokens?x=1")
    assert asked == [b"/api/v1/jobs/..%2Ftokens%3Fx%3D1"]


VERSIONS = [
    {"name": "m", "version": 2, "aliases": ["candidate"]},
    {"name": "m", "version": 1, "aliases": ["champion"]},
]


@pytest.mark.parametrize(("reference", "version"), [("m", 2), ("m:1", 1), ("m@champion", 1), ("m@candidate", 2)])
def test_a_model_is_named_by_version_alias_or_as_the_newest(tmp_path, reference, version):
    client = a_client(lambda _: httpx.Response(200, json={"items": VERSIONS}), tmp_path)
    assert client.model(reference).version == version


@pytest.mark.parametrize(
    ("reference", "error"), [("m:3", NotFoundError), ("m@nobody", NotFoundError), ("m:one", InvalidInputError)]
)
def test_a_version_that_is_not_there_is_an_error_that_lists_those_that_are(tmp_path, reference, error):
    client = a_client(lambda _: httpx.Response(200, json={"items": VERSIONS}), tmp_path)
    with pytest.raises(error) as raised:
        client.model(reference)
    assert raised.value.hint


def test_a_deployment_gets_the_revision_after_the_last_one_also_after_it_was_deleted(tmp_path):
    former = {"name": "d", "site": "leeds", "revision": 4, "state": "gone", "model": "m", "version": 1, "image": "x"}
    posted: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET" and request.url.path == "/api/v1/deployments":
            assert request.url.params["deleted"] == "true"
            return httpx.Response(200, json={"items": [former | {"created_at": WHEN, "deleted": True}]})
        posted.append(json.loads(request.content))
        return httpx.Response(201, json=former | {"created_at": WHEN, "revision": 5, "state": "pending"})

    client = a_client(answer, tmp_path)
    model = ModelVersionView(name="m", version=1, digest=digest_of(b"model"))
    image = ImageView(
        id="i-1", state="ready", model="m", version=1, digest=digest_of(b"i"), base=A_BASE, lock=A_LOCK, created_at=NOON
    )
    client.deploy("d", model=model, image=image, site="leeds")
    import base64

    document = json.loads(base64.b64decode(posted[0]["envelope"]["payload"]))
    assert document["revision"] == 5
    assert Digest(document["image"]) == image.digest
