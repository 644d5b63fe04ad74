"""A model that stays at its site: the hub has its card, and refuses by one rule whatever would move it."""

import httpx
import pytest

from insitu.domain.digests import digest_of
from insitu.hub.loops import build_images, write_mlflow
from insitu.wire.deployments import DeployedModel
from insitu.wire.keys import SigningKey
from insitu.wire.people import Role
from tests.unit.hub.hub_world import BASE, LOCK, Agent, a_hub, a_model, a_running_job

DIGEST = digest_of(b"a model that stays")
MODEL = DeployedModel(name="breast-cancer", version=1, digest=DIGEST)


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


@pytest.fixture
def resident(world, alice, leeds):
    """A job whose model became resident at leeds, as breast-cancer version 1."""
    job_id = a_running_job(world, alice, leeds)
    leeds.state(job_id, "judging", "releasing")
    reply = leeds.announce(job_id)
    assert (reply.status_code, reply.json()["version"]) == (200, 1), reply.text
    leeds.state(job_id, "succeeded")
    return job_id


def deploy(person, **changes):
    envelope = person.signed_deployment(**({"model": MODEL, "image": None} | changes))
    return person.post("/api/v1/deployments", {"envelope": envelope.model_dump(mode="json")})


# -- the card ----------------------------------------------------------------------------------------------------------


def test_a_card_becomes_a_version_that_says_where_it_may_be_used(alice, resident):
    version = alice.get("/api/v1/models/breast-cancer/versions/1").json()
    assert (version["resident"], version["site"], version["digest"]) == ("leeds", "leeds", DIGEST)
    assert version["tags"]["insitu.resident"] == "leeds"
    assert version["tags"]["insitu.rule"] == "resident by jo"
    assert version["size_bytes"] == 105_000


def test_the_same_card_again_is_the_same_version(world, alice, leeds, resident):
    assert [leeds.announce(resident).json()["version"] for _ in range(2)] == [1, 1]
    assert len(world.tracking.registered) == 1


def test_what_left_of_it_is_the_card_alone(alice, resident):
    items = alice.get(f"/api/v1/jobs/{resident}/egress").json()["items"]
    (item,) = [item for item in items if item["kind"] != "events"]
    assert (item["kind"], item["decision"]) == ("card", "resident")
    assert 500 < item["size_bytes"] < 2000
    assert alice.job(resident)["egress_bytes"] == sum(item["size_bytes"] for item in items)


def test_a_card_that_mlflow_can_not_take_now_is_kept_and_registered_later(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    world.tracking.is_up = False
    assert leeds.announce(job_id).status_code == 503
    world.tracking.is_up = True
    write_mlflow.step(world.parts)
    assert alice.get("/api/v1/models/breast-cancer/versions/1").json()["resident"] == "leeds"


@pytest.mark.parametrize(
    "changes",
    [
        {"output": "secrets"},
        {"register_as": "another-model"},
        {"lock": digest_of(b"another lock")},
        {"datasets": {}},
    ],
)
def test_a_card_of_what_the_signed_job_does_not_declare_is_refused(world, alice, leeds, changes):
    job_id = a_running_job(world, alice, leeds)
    reply = leeds.announce(job_id, **changes)
    assert (reply.status_code, reply.json()["code"]) == (403, "not-in-contract")
    assert world.tracking.registered == {}


def test_a_card_that_the_sites_key_did_not_sign_is_refused(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    forger = Agent(world, "leeds", key=SigningKey.generate())
    reply = leeds.call("POST", "/agent/v1/cards", json=forger.signed_card(job_id).model_dump(mode="json"))
    assert (reply.status_code, reply.json()["code"]) == (403, "unknown-signer")


def test_a_neighbours_card_is_refused(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    turin = world.site("turin")
    assert turin.announce(job_id).json()["code"] == "not-your-job"


def test_a_stranger_can_announce_nothing(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    envelope = leeds.signed_card(job_id).model_dump(mode="json")
    assert world.client.post("/agent/v1/cards", json=envelope).status_code == 401


def test_a_card_holds_no_field_that_nobody_foresaw(world, alice, leeds):
    job_id = a_running_job(world, alice, leeds)
    from insitu.wire.cards import CARD_TYPE, CardDocument
    from insitu.wire.envelopes import seal

    class Wider(CardDocument):
        note: str

    fields = {**_payload(leeds.signed_card(job_id)), "note": "rows"}
    envelope = seal(CARD_TYPE, Wider.model_validate(fields), leeds.key)
    reply = leeds.call("POST", "/agent/v1/cards", json=envelope.model_dump(mode="json"))
    assert (reply.status_code, reply.json()["code"]) == (422, "card-document-unknown-key")


def _payload(envelope):
    import base64
    import json

    return json.loads(base64.b64decode(envelope.payload))


# -- used at its site --------------------------------------------------------------------------------------------------


def test_its_own_site_may_serve_it_and_needs_no_image(mel, leeds, resident):
    reply = deploy(mel)
    assert (reply.status_code, reply.json()["image"]) == (201, ""), reply.text
    (order,) = leeds.sync().deployments
    assert order.name == "screening"


def test_a_deployment_of_another_model_under_its_name_is_refused(mel, resident):
    for changes in (
        {"model": MODEL.model_copy(update={"digest": digest_of(b"x")})},
        {"lock": digest_of(b"x")},
        {"base": digest_of(b"x")},
    ):
        assert deploy(mel, **changes).json()["code"] == "image-mismatch"


def test_a_model_that_left_its_site_needs_an_image(world, alice, mel, leeds):
    a_model(world, alice, leeds)
    digest = alice.get("/api/v1/models/breast-cancer/versions/1").json()["digest"]
    reply = deploy(mel, model=MODEL.model_copy(update={"digest": digest}))
    assert (reply.status_code, reply.json()["code"]) == (422, "no-image")


def test_the_hub_learns_the_digest_of_the_image_that_its_site_built(mel, leeds, resident):
    deploy(mel)
    built = digest_of(b"the image")
    report = leeds.serving("screening", 1, url="http://leeds:8000").model_copy(update={"image": built})
    leeds.sync(deployments=[report])
    assert mel.get("/api/v1/deployments/screening").json()["image"] == built
    assert mel.get("/api/v1/images").json()["items"] == []
    assert leeds.call("GET", f"/agent/v1/blobs/{built}").status_code == 403


# -- moved nowhere -----------------------------------------------------------------------------------------------------


def refused_as_resident(reply):
    assert reply.status_code == 403, reply.text
    problem = reply.json()
    assert (problem["code"], problem["rule"]) == ("resident", "resident")
    assert "leeds" in problem["limit"]
    assert problem["hint"]


def test_another_site_may_not_serve_it(world, mel, resident):
    world.site("turin")
    refused_as_resident(deploy(mel, site="turin"))


def test_no_image_of_it_that_its_site_did_not_build_is_served(mel, resident):
    refused_as_resident(deploy(mel, image=digest_of(b"x")))


def test_under_another_versions_name_it_may_not_be_served_elsewhere(world, alice, mel, leeds, resident):
    """The name of a version that left, with the digest of the one that stays."""
    a_model(world, alice, leeds)
    world.site("turin")
    borrowed = MODEL.model_copy(update={"version": 2})
    for image in (None, digest_of(b"x")):
        reply = deploy(mel, site="turin", model=borrowed, image=image)
        assert reply.json()["code"] in ("no-image", "no-such-image")


def test_no_image_of_it_is_built(world, mel, resident):
    refused_as_resident(mel.post("/api/v1/images", {"model": "breast-cancer", "version": 1}))
    build_images.step(world.parts)
    assert mel.get("/api/v1/images").json()["items"] == []


def test_its_files_are_not_to_be_had(alice, resident):
    refused_as_resident(alice.get("/api/v1/models/breast-cancer/versions/1/files"))
    refused_as_resident(alice.get("/api/v1/models/breast-cancer/versions/1/files/model.skops"))
    refused_as_resident(alice.get(f"/api/v1/jobs/{resident}/outputs/model/files"))
    assert alice.get(f"/api/v1/blobs/{DIGEST}").status_code == 404


def test_a_site_that_serves_it_gets_its_lock_and_no_blob_of_a_model(mel, leeds, resident):
    deploy(mel)
    assert leeds.call("GET", f"/agent/v1/blobs/{LOCK}").status_code == 200
    assert leeds.call("GET", f"/agent/v1/blobs/{DIGEST}").status_code == 403


# -- MLflow ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def real(tmp_path):
    with a_hub(tmp_path / "hub", real_mlflow=True) as found:
        yield found


def test_mlflow_lists_the_version_and_says_why_it_has_no_files(real):
    alice, leeds = real.person("alice"), real.site()
    job_id = a_running_job(real, alice, leeds)
    real.parts.tracking.wait_ready(120)
    assert [leeds.announce(job_id).json()["version"] for _ in range(2)] == [1, 1]
    where = {"name": "breast-cancer", "version": "1"}
    found = mlflow(alice, "/mlflow/api/2.0/mlflow/model-versions/get", where).json()["model_version"]
    tags = {tag["key"]: tag["value"] for tag in found["tags"]}
    assert (tags["insitu.resident"], tags["insitu.base"]) == ("leeds", BASE)
    for path in (
        "/mlflow/api/2.0/mlflow/model-versions/get-download-uri",
        "/mlflow/ajax-api/2.0/mlflow/model-versions/get-download-uri",
        "/mlflow/model-versions/get-artifact",
    ):
        refused = mlflow(alice, path, {**where, "path": "MLmodel"})
        assert (refused.status_code, refused.json()["code"]) == (403, "resident"), refused.text
        assert "resident at leeds" in refused.json()["message"]


def mlflow(person, path, query) -> httpx.Response:
    return person.call("GET", path, params=query)


def test_no_tag_and_no_alias_makes_it_movable(real):
    alice, mel, leeds = real.person("alice"), real.person("mel", Role.ML_ENGINEER), real.site()
    job_id = a_running_job(real, alice, leeds)
    real.parts.tracking.wait_ready(120)
    assert leeds.announce(job_id).json()["version"] == 1
    tag = {"name": "breast-cancer", "version": "1", "key": "insitu.resident", "value": ""}
    refused = mel.post("/mlflow/api/2.0/mlflow/model-versions/set-tag", tag)
    assert (refused.status_code, refused.json()["code"]) == (403, "tag-reserved")
    copy = {"name": "mine", "source": "models:/breast-cancer/1"}
    refused = mel.post("/mlflow/api/2.0/mlflow/model-versions/create", copy)
    assert (refused.status_code, refused.json()["code"]) == (403, "mlflow-read-only")
    alias = {"name": "breast-cancer", "alias": "champion", "version": "1"}
    assert mel.post("/mlflow/api/2.0/mlflow/registered-models/alias", alias).status_code == 200
    where = {"name": "breast-cancer", "alias": "champion"}
    found = mlflow(mel, "/mlflow/api/2.0/mlflow/registered-models/alias", where).json()["model_version"]
    path = "/mlflow/api/2.0/mlflow/model-versions/get-download-uri"
    refused = mlflow(mel, path, {"name": found["name"], "version": found["version"]})
    assert (refused.status_code, refused.json()["code"]) == (403, "resident")
