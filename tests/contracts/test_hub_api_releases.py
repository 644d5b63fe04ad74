"""What a site lets out: admitted once, made a model, an image, a deployment. Each step signed by whom it should be."""

import base64
import json

import pytest

from insitu.domain.digests import digest_of
from insitu.hub.actions import recording
from insitu.hub.loops import build_images, write_mlflow
from insitu.hub.store import images as image_store
from insitu.wire.envelopes import Envelope, seal
from insitu.wire.keys import SigningKey
from insitu.wire.people import Reason, Role
from insitu.wire.releases import (
    ReleasedFile,
    ReleaseDocument,
    files_digest,
    open_release,
    seal_release,
    statement_of,
)
from insitu.wire.statements import STATEMENT_TYPE, subjects_of
from tests.unit.hub.hub_world import LOCK, MODEL_FILES, Agent, a_hub, a_model, a_running_job, deployed_model


@pytest.fixture
def world(tmp_path):
    with a_hub(tmp_path / "hub") as found:
        yield found


@pytest.fixture
def alice(world):
    return world.person("alice")


@pytest.fixture
def mel(world):
    return world.person("mel", Role.ML_ENGINEER)


@pytest.fixture
def leeds(world):
    return world.site()


def read_release(envelope):
    return ReleaseDocument.model_validate(json.loads(base64.b64decode(envelope.payload))["predicate"])


# -- admitting ---------------------------------------------------------------------------------------------------------


def test_a_released_model_becomes_a_version_with_its_lineage(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    leeds.state(job_id, "judging", "releasing")
    reply = leeds.release(job_id)
    assert reply.json()["model"] == "breast-cancer"
    assert reply.json()["version"] == 1
    digest = reply.json()["digest"]
    leeds.tell(
        job_id, {"kind": "decision", "output": "model", "verdict": "released", "rule": "clean", "digest": digest}
    )
    output = alice.job(job_id)["outputs"][0]
    assert (output["verdict"], output["model"], output["model_version"]) == ("released", "breast-cancer", 1)
    version = alice.get("/api/v1/models/breast-cancer/versions/1").json()
    assert (version["digest"], version["job_id"], version["site"]) == (digest, job_id, "leeds")
    assert version["tags"]["insitu.submitter"] == "alice"
    assert version["tags"]["insitu.datasets"].startswith("wdbc@1 sha256:")
    files = alice.get("/api/v1/models/breast-cancer/versions/1/files").json()["items"]
    assert [file["path"] for file in files] == ["MLmodel", "model.skops"]
    assert alice.get("/api/v1/models/breast-cancer/versions/1/files/model.skops").content == b"weights"
    assert alice.get("/api/v1/models/breast-cancer/versions/1/files/..%2F..%2Fhub-key").status_code == 404


def test_a_custom_model_becomes_a_version_with_its_files_and_lineage(world, alice, leeds):
    weights = {"config.json": b"{}", "weights.safetensors": b"weights"}
    outputs = {"net": {"type": "custom_model", "register": "xray"}}
    job_id = a_running_job(world, alice, leeds, outputs=outputs)
    reply = leeds.release(job_id, files=weights, output="net", type="custom_model", register_as="xray")
    assert (reply.json()["model"], reply.json()["version"]) == ("xray", 1)
    version = alice.get("/api/v1/models/xray/versions/1").json()
    assert version["tags"]["insitu.type"] == "custom_model"
    assert version["tags"]["insitu.datasets"].startswith("wdbc@1 sha256:")
    files = alice.get("/api/v1/models/xray/versions/1/files").json()["items"]
    assert [file["path"] for file in files] == sorted(weights)
    lied = leeds.release(job_id, files=weights, output="net", type="mlflow_model", register_as="xray")
    assert lied.json()["code"] == "not-in-contract"


def test_the_same_release_again_is_the_same_version(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    assert [leeds.release(job_id).json()["version"] for _ in range(3)] == [1, 1, 1]
    assert alice.job(job_id)["egress_bytes"] == 10 + sum(map(len, MODEL_FILES.values()))
    assert len(alice.get(f"/api/v1/jobs/{job_id}/egress").json()["items"]) == 2


def test_another_jobs_model_is_the_next_version(world, alice, leeds):
    a_model(world, alice, leeds)
    leeds._seq = iter(range(1, 100))
    a_model(world, alice, leeds)
    assert [version["version"] for version in alice.get("/api/v1/models/breast-cancer").json()["items"]] == [2, 1]
    assert [model["version"] for model in alice.get("/api/v1/models").json()["items"]] == [2]


def test_a_release_that_mlflow_can_not_take_now_is_kept_and_registered_later(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    world.tracking.is_up = False
    reply = leeds.release(job_id)
    assert (reply.status_code, reply.json()["code"]) == (503, "tracking-starting")
    assert reply.headers["retry-after"]
    world.tracking.is_up = True
    write_mlflow.step(world.parts)
    assert alice.get("/api/v1/models/breast-cancer/versions/1").json()["job_id"] == job_id
    assert leeds.release(job_id).json()["version"] == 1


def test_a_released_file_that_is_no_model_lies_with_its_run(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    files = {"report.csv": b"a,b\n"}
    reply = leeds.release(job_id, files=files, output="report", type="uri_file", register_as=None)
    assert reply.json()["version"] is None
    assert world.tracking.outputs == [(f"run-of-{job_id}", "report", ["report.csv"])]
    assert alice.get(f"/api/v1/jobs/{job_id}/outputs/report/files/report.csv").content == b"a,b\n"
    assert alice.get(f"/api/v1/jobs/{job_id}/outputs/model/files").json()["code"] == "not-released"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"output": "secrets"}, "output"),
        ({"register_as": "another-model"}, "type"),
        ({"register_as": None}, "type"),
        ({"type": "uri_folder", "register_as": None}, "type"),
        ({"code": digest_of(b"other code")}, "code"),
        ({"lock": digest_of(b"other lock")}, "lock"),
        ({"base": digest_of(b"other base")}, "base"),
        ({"datasets": {}}, "datasets"),
        ({"datasets": {"wdbc@1": digest_of(b"other data")}}, "datasets"),
    ],
)
def test_what_the_signed_job_does_not_say_may_leave_is_not_admitted(world, alice, leeds, changes, said):
    job_id = a_running_job(world, alice, leeds)
    reply = leeds.release(job_id, **changes)
    assert (reply.status_code, reply.json()["code"]) == (403, "not-in-contract")
    assert said in reply.json()["why"]
    assert world.tracking.registered == {}
    assert alice.get("/api/v1/models").json()["items"] == []


def test_a_release_that_the_sites_key_did_not_sign_is_refused(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    forger = Agent(world, "leeds", key=SigningKey.generate())
    envelope = forger.signed_release(job_id).model_dump(mode="json")
    reply = leeds.call("POST", "/agent/v1/releases", json=envelope)
    assert (reply.status_code, reply.json()["code"]) == (403, "unknown-signer")


def test_a_release_whose_digest_is_not_that_of_its_files_is_refused(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    assert leeds.release(job_id, digest=digest_of(b"x")).json()["code"] == "release-digest"


def test_what_the_site_signed_can_be_had_and_checked_by_anybody_with_its_key(world, alice, leeds):
    leeds.release(a_running_job(world, alice, leeds))
    reply = alice.get("/api/v1/models/breast-cancer/versions/1/statement")
    release = open_release(Envelope.model_validate(reply.json()), site_key=leeds.key.fingerprint).document
    statement = json.loads(base64.b64decode(reply.json()["payload"]))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"] == [
        {"name": file.path, "digest": {"sha256": file.digest.removeprefix("sha256:")}} for file in release.files
    ]
    assert alice.get("/api/v1/models/breast-cancer/versions/2/statement").status_code == 404
    assert alice.get("/api/v1/models/other/versions/1/statement").status_code == 404


def test_a_release_whose_subject_is_not_its_files_is_refused(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    statement = statement_of(read_release(leeds.signed_release(job_id)))
    for forged in (
        statement.model_copy(update={"subject": subjects_of({"other": digest_of(b"other")})}),
        statement.model_copy(update={"predicateType": "https://slsa.dev/provenance/v1"}),
    ):
        envelope = seal(STATEMENT_TYPE, forged, leeds.key).model_dump(mode="json")
        assert leeds.call("POST", "/agent/v1/releases", json=envelope).json()["code"] == "release-digest"


def test_a_release_that_lies_about_a_size_is_refused(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    data = b"weights"
    leeds.upload(data)
    files = [ReleasedFile(path="m", digest=digest_of(data), size_bytes=len(data) + 1)]
    document = read_release(leeds.signed_release(job_id)).model_copy(
        update={"files": files, "digest": files_digest(files)}
    )
    envelope = seal_release(document, leeds.key).model_dump(mode="json")
    assert leeds.call("POST", "/agent/v1/releases", json=envelope).json()["code"] == "release-size"


def test_a_release_before_its_files_lists_what_is_missing(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    envelope = leeds.signed_release(job_id).model_dump(mode="json")
    reply = leeds.call("POST", "/agent/v1/releases", json=envelope)
    assert (reply.status_code, reply.json()["code"]) == (409, "missing-blobs")
    assert reply.json()["missing"] == sorted(digest_of(data) for data in MODEL_FILES.values())


def test_a_release_of_an_attempt_that_is_over_is_refused(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds, retries=1)
    leeds.state(job_id, "failed", failure="lost")
    assert (leeds.release(job_id).status_code, leeds.release(job_id).json()["code"]) == (409, "fenced")
    assert world.tracking.registered == {}


def test_what_is_held_is_listed_with_its_rule_measure_and_hint(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    finding = {"rule": "rows-in-model", "measure": "426 of 569 rows", "limit": "0 rows", "hint": "use another model"}
    held = {"kind": "decision", "output": "model", "verdict": "held", **finding, "findings": [finding]}
    leeds.tell(job_id, {"kind": "state", "state": "judging"}, held, {"kind": "state", "state": "held"})
    listed = alice.get("/api/v1/releases?verdict=held").json()["items"]
    assert [(one["job_id"], one["site"], one["job_state"]) for one in listed] == [(job_id, "leeds", "held")]
    assert listed[0]["output"]["findings"][0]["measure"] == "426 of 569 rows"
    assert alice.get("/api/v1/releases?verdict=released").json()["items"] == []
    # A steward says yes, much later: nothing runs again.
    leeds.state(job_id, "releasing")
    assert leeds.release(job_id, reviewer="jo", rule="approved").json()["version"] == 1
    leeds.tell(job_id, {"kind": "decision", "output": "model", "verdict": "released", "rule": "approved"})
    leeds.state(job_id, "succeeded")
    assert alice.job(job_id)["outputs"][0]["verdict"] == "released"


# -- labels ------------------------------------------------------------------------------------------------------------


def test_people_may_tag_and_alias_and_not_touch_lineage(world, alice, leeds):
    a_model(world, alice, leeds)
    path = "/api/v1/models/breast-cancer"
    assert alice.put(f"{path}/versions/1/tags", {"key": "stage", "value": "trial"}).json()["tags"]["stage"] == "trial"
    assert alice.put(f"{path}/aliases", {"alias": "champion", "version": 1}).json()["aliases"] == ["champion"]
    refused = alice.put(f"{path}/versions/1/tags", {"key": "insitu.site", "value": "elsewhere"})
    assert (refused.status_code, refused.json()["code"]) == (403, "tag-reserved")
    assert alice.put(f"{path}/aliases", {"alias": "champion", "version": 7}).status_code == 404
    assert alice.get("/api/v1/models/nothing").status_code == 404


# -- recording ---------------------------------------------------------------------------------------------------------


def test_mlflow_gets_each_metric_once_and_the_run_ends_as_the_job_did(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    write_mlflow.step(world.parts)
    assert alice.job(job_id)["run_id"] == f"run-of-{job_id}"
    leeds.tell(
        job_id,
        {"kind": "metric", "key": "auc", "value": 0.9, "step": 1, "timestamp_ms": 5},
        {"kind": "param", "key": "C", "value": "1"},
        {"kind": "run", "run": "c1", "name": "fold 1"},
        {"kind": "run", "run": "c2", "parent": "c1", "name": "inner"},
        {"kind": "metric", "run": "c2", "key": "loss", "value": "NaN"},
    )
    leeds.state(job_id, "judging", "succeeded")
    for _ in range(2):
        write_mlflow.step(world.parts)
    run = world.tracking.runs[f"run-of-{job_id}"]
    assert run["metrics"] == [("auc", 0.9, 5, 1)]
    assert (run["params"], run["end"], run["experiment"]) == ({"C": "1"}, "FINISHED", "breast-cancer")
    inner = world.tracking.runs[f"run-of-{job_id}/1.c1/1.c2"]
    assert (inner["name"], inner["parent"]) == ("inner", f"run-of-{job_id}/1.c1")
    assert str(inner["metrics"][0][1]) == "nan"


def test_recording_that_stopped_half_way_is_taken_up_again(world, alice, leeds, monkeypatch):
    job_id = a_running_job(world, alice, leeds)
    monkeypatch.setattr(recording, "_EVENTS", 2)
    for value in range(5):
        leeds.tell(job_id, {"kind": "metric", "key": "auc", "value": value, "step": value})
    log, calls = world.tracking.log, []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise RuntimeError("killed here")
        return log(*arguments)

    monkeypatch.setattr(world.tracking, "log", failing)
    with pytest.raises(RuntimeError):
        write_mlflow.step(world.parts)
    write_mlflow.step(world.parts)
    assert [point[1] for point in world.tracking.runs[f"run-of-{job_id}"]["metrics"]] == [0, 1, 2, 3, 4]


# -- images ------------------------------------------------------------------------------------------------------------


def test_an_image_without_its_base_fails_with_a_hint_and_may_be_asked_for_again(world, alice, mel, leeds):
    a_model(world, alice, leeds)
    first = mel.post("/api/v1/images", {"model": "breast-cancer", "version": 1})
    assert (first.status_code, first.json()["state"]) == (202, "building")
    assert mel.post("/api/v1/images", {"model": "breast-cancer", "version": 1}).json()["id"] == first.json()["id"]
    build_images.step(world.parts)
    failed = mel.get(f"/api/v1/images/{first.json()['id']}").json()
    assert (failed["state"], failed["reason"]["code"]) == ("failed", "no-base")
    assert "base-image" in failed["reason"]["hint"]
    assert mel.post("/api/v1/images", {"model": "breast-cancer", "version": 1}).json()["id"] != first.json()["id"]


def test_an_image_of_no_model_is_refused(mel):
    reply = mel.post("/api/v1/images", {"model": "nothing", "version": 1})
    assert (reply.status_code, reply.json()["code"]) == (404, "no-such-version")


def test_a_failure_that_nobody_foresaw_fails_the_image_and_not_the_loop(world, alice, mel, leeds, monkeypatch):
    a_model(world, alice, leeds)
    image = mel.post("/api/v1/images", {"model": "breast-cancer", "version": 1}).json()
    monkeypatch.setattr(build_images, "_build", lambda *_: 1 / 0)
    build_images.step(world.parts)
    assert mel.get(f"/api/v1/images/{image['id']}").json()["reason"]["code"] == "internal"


# -- deployments -------------------------------------------------------------------------------------------------------


@pytest.fixture
def image(world, alice, mel, leeds):
    """A ready image, as the loop notes it."""
    a_model(world, alice, leeds)
    asked = mel.post("/api/v1/images", {"model": "breast-cancer", "version": 1}).json()
    built = image_store.BuiltImage(
        digest=digest_of(b"manifest"),
        reference="breast-cancer:1",
        size_bytes=9,
        blobs=[digest_of(b"layer")],
        pushed=False,
        reason=Reason(),
    )
    with world.parts.store.write() as session:
        assert image_store.note_ready(session, asked["id"], built)
    return mel.get(f"/api/v1/images/{asked['id']}").json()


def post(person, envelope):
    return person.post("/api/v1/deployments", {"envelope": envelope.model_dump(mode="json")})


def signed(mel, of, **changes):
    return mel.signed_deployment(**{"model": deployed_model(of["model_digest"]), "image": of["digest"], **changes})


def test_an_image_is_found_by_id_digest_and_name(mel, image):
    for name in (image["id"], image["digest"], "breast-cancer:1"):
        assert mel.get(f"/api/v1/images/{name}").json()["id"] == image["id"]
    assert mel.get("/api/v1/images/breast-cancer:2").status_code == 404


def test_a_signed_deployment_reaches_its_site_and_shows_what_the_site_says(world, mel, leeds, image):
    envelope = signed(mel, image)
    reply = post(mel, envelope)
    assert (reply.status_code, reply.json()["state"]) == (201, "pending")
    order = leeds.sync().deployments[0]
    assert (order.name, order.envelope) == ("screening", envelope)
    leeds.sync(deployments=[leeds.serving("screening", 1, "healthy", url="http://10.0.0.1:8000")])
    shown = mel.get("/api/v1/deployments/screening").json()
    assert (shown["state"], shown["url"], shown["link"]) == ("healthy", "http://10.0.0.1:8000", "")
    world.clock.tick(60)
    assert mel.get("/api/v1/deployments/screening").json()["link"] == "away"


def test_the_same_deployment_again_changes_nothing_and_an_old_one_is_a_replay(mel, image):
    first = signed(mel, image)
    assert post(mel, first).json()["revision"] == 1
    assert post(mel, first).json()["revision"] == 1
    assert post(mel, signed(mel, image, revision=2)).json()["revision"] == 2
    assert (post(mel, first).status_code, post(mel, first).json()["code"]) == (409, "replayed")


@pytest.mark.parametrize("revision", [2, 7])
def test_a_revision_must_follow_on_the_last_one(mel, image, revision):
    reply = post(mel, signed(mel, image, revision=revision))
    assert (reply.status_code, reply.json()["code"], reply.json()["limit"]) == (409, "wrong-revision", "1")


def test_a_deleted_deployment_is_stopped_and_its_envelope_does_not_bring_it_back(mel, leeds, image):
    envelope = signed(mel, image)
    post(mel, envelope)
    leeds.sync(deployments=[leeds.serving("screening", 1)])
    assert mel.call("DELETE", "/api/v1/deployments/screening").json()["deleted"]
    assert leeds.sync(deployments=[leeds.serving("screening", 1, "stopping")]).deployments == []
    assert mel.get("/api/v1/deployments/screening").json()["state"] == "stopping"
    leeds.sync()
    assert mel.get("/api/v1/deployments/screening").json()["state"] == "gone"
    assert post(mel, envelope).json()["code"] == "replayed"
    assert post(mel, signed(mel, image, revision=2)).json()["deleted"] is False
    assert len(leeds.sync().deployments) == 1


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"site": "oslo"}, 404, "no-such-site"),
        ({"image": digest_of(b"unknown")}, 404, "no-such-image"),
        ({"base": digest_of(b"other")}, 422, "image-mismatch"),
        ({"lock": digest_of(b"other")}, 422, "image-mismatch"),
        ({"model": deployed_model(digest_of(b"other"))}, 422, "image-mismatch"),
        ({"submitter": "alice"}, 403, "not-your-name"),
        ({"key": SigningKey.generate()}, 403, "not-your-signature"),
        ({"name": "Not A Name"}, 422, "bad-name"),
    ],
)
def test_a_deployment_that_does_not_fit_is_refused_and_nothing_is_deployed(mel, leeds, image, changes, status, code):
    reply = post(mel, signed(mel, image, **changes))
    assert (reply.status_code, reply.json()["code"]) == (status, code)
    assert leeds.sync().deployments == []


def test_a_deployment_stays_at_its_site(world, mel, leeds, image):
    world.site("turin")
    post(mel, signed(mel, image))
    assert post(mel, signed(mel, image, revision=2, site="turin")).json()["code"] == "deployed-elsewhere"


def test_an_expired_deployment_is_refused(world, mel, image):
    envelope = signed(mel, image)
    world.clock.tick(8 * 86400)
    assert post(mel, envelope).json()["code"] == "expired"


def test_a_site_gets_what_its_deployments_name_and_no_other_site_does(world, mel, leeds, image):
    turin = world.site("turin")
    released = digest_of(b"weights")
    for digest in (LOCK, released):
        assert leeds.call("GET", f"/agent/v1/blobs/{digest}").status_code == 403
    post(mel, signed(mel, image))
    for digest in (LOCK, released):
        assert leeds.call("GET", f"/agent/v1/blobs/{digest}").status_code == 200
        assert turin.call("GET", f"/agent/v1/blobs/{digest}").status_code == 403
