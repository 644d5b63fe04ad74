"""A model that may be used where it was trained, and nowhere else: reviewed, served at its site, moved by nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import mlflow.artifacts
import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from insitu.agent.frozen import list_files
from insitu.domain.digests import Digest, digest_of_file
from insitu.domain.errors import DeniedError
from insitu.domain.reviews import ReviewVerdict
from insitu.images.layout import OciLayout
from insitu.sdk.transport import Transport
from insitu.wire.deployments import DeployedModel, ServingResources, sign_deployment
from insitu.wire.people import DeploymentRequest, DeploymentView, JobView, ModelVersionView
from insitu.wire.releases import files_digest
from insitu.wire.verdicts import sign_verdict, verdict_document
from tests.rig import World, wdbc_table

EXAMPLE = Path(__file__).parents[2] / "examples" / "wdbc" / "job.yaml"
TABLE = wdbc_table()
ROWS = TABLE.drop(columns="malignant")[:60]


@pytest.fixture(scope="module")
def knn(world: World) -> JobView:
    """A model that stores its training rows: held, since it may not leave."""
    job = world.alice.submit(EXAMPLE, changes={"inputs.estimator": "knn"})
    job = world.alice.wait(job.id, timeout_s=240)
    assert job.state == "held", (job.reason, world.logs())
    return job


@pytest.fixture(scope="module")
def resident(world: World, knn: JobView) -> JobView:
    """The reviewer jo lets it be used here."""
    (item,) = [item for item in world.console("release_list") if item["job_id"] == knn.id]
    terms = world.console("release_terms", id=item["id"])
    document = verdict_document(
        release_id=item["id"],
        digest=terms["digest"],
        verdict=ReviewVerdict.RESIDENT,
        reason="it holds patients' rows, and the clinic needs it here",
        policy_version=terms["policy_version"],
        ledger_entries=terms["ledger_entries"],
        ledger_hash=terms["ledger_hash"],
        now=datetime.now(UTC),
    )
    envelope = sign_verdict(document, world.keys["jo"]).model_dump(mode="json")
    world.console("release_decide", id=item["id"], envelope=envelope)
    return world.wait_for_state(knn.id, "succeeded")


@pytest.fixture(scope="module")
def version(world: World, resident: JobView) -> ModelVersionView:
    (found,) = [one for one in world.eng.model_versions("breast-cancer") if one.job_id == resident.id]
    return found


@pytest.fixture(scope="module")
def service(world: World, version: ModelVersionView) -> Iterator[DeploymentView]:
    world.eng.deploy("neighbours", model=version, image=None, site="leeds")
    found = world.eng.wait_deployment("neighbours")
    assert found.state == "healthy", (found.reason, world.logs())
    yield found
    world.eng.delete_deployment("neighbours")
    world.eng.wait_deployment("neighbours", until=("gone",))


# -- what the hub has of it --------------------------------------------------------------------------------------------


def test_the_hub_has_its_card_and_its_metrics(world: World, resident: JobView, version: ModelVersionView) -> None:
    assert version.resident == "leeds"
    assert version.tags["insitu.rule"] == "resident by jo"
    assert version.size_bytes > 10_000
    assert resident.metrics["auc"] > 0.9
    (output,) = resident.outputs
    assert (output.verdict, output.review, output.model_version) == ("resident", "resident", version.version)
    assert "the clinic needs it here" in output.reason


def test_the_ledger_has_the_verdict_before_the_card_and_no_file(world: World, resident: JobView) -> None:
    entries = [entry for entry in world.ledger_entries() if entry["job_id"] == resident.id]
    kinds = [entry["kind"] for entry in entries if entry["kind"] != "batch"]
    assert kinds == ["verdict", "card"]
    card = next(entry for entry in entries if entry["kind"] == "card")
    assert (card["decision"], card["reviewer"]) == ("resident", "jo")
    assert card["digest"] == resident.outputs[0].digest


def test_not_one_of_its_files_is_anywhere_at_the_hub(world: World, service: DeploymentView, resident: JobView) -> None:
    """Also not after it was deployed: what serves was taken from the site's own copy."""
    assert service.state == "healthy"
    (item,) = [item for item in world.console("release_list") if item["job_id"] == resident.id]
    frozen = Path(world.console("release_show", id=item["id"])["folder"])
    own = {path.stat().st_size: digest_of_file(path) for path in frozen.rglob("*") if path.name == "model.skops"}
    assert own
    hub = [path for path in (world.folder / "hub").rglob("*") if path.is_file() and path.stat().st_size in own]
    assert not [path for path in hub if digest_of_file(path) == own[path.stat().st_size]]


# -- its image ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images(world: World) -> OciLayout:
    return OciLayout(world.site.deployments / "images", create=False)


def test_its_image_is_built_at_its_site_and_the_hub_knows_the_digest(
    service: DeploymentView, version: ModelVersionView, images: OciLayout
) -> None:
    labels = images.manifest(Digest(service.image))["annotations"]
    assert labels["org.insitu.model.digest"] == version.digest
    assert labels["org.opencontainers.image.base.digest"] == version.tags["insitu.base"]
    assert labels["org.insitu.lock.digest"] == version.tags["insitu.lock"]
    assert not images.path.stat().st_mode & 0o077


def test_what_is_served_was_unpacked_from_that_image(world: World, service: DeploymentView, resident: JobView) -> None:
    (item,) = [item for item in world.console("release_list") if item["job_id"] == resident.id]
    place = world.site.deployments / "unpacked" / service.image.removeprefix("sha256:") / "opt" / "model"
    assert files_digest(list_files(place)) == item["digest"]
    assert not (world.site.deployments / "models" / item["digest"].removeprefix("sha256:")).exists()


def test_nothing_of_its_image_is_at_the_hub(world: World, service: DeploymentView, images: OciLayout) -> None:
    manifest = images.manifest(Digest(service.image))
    own = [service.image, manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"][-2:])]
    sizes = {images.size_of(Digest(digest)): digest for digest in own}
    hub = [path for path in (world.folder / "hub").rglob("*") if path.is_file() and path.stat().st_size in sizes]
    assert not [path for path in hub if digest_of_file(path) == sizes[path.stat().st_size]]
    assert service.image not in {image.digest for image in world.eng.images()}


# -- used where it is --------------------------------------------------------------------------------------------------


def test_it_predicts_at_its_site(service: DeploymentView) -> None:
    answer = httpx.post(f"{service.url}/invocations", json={"dataframe_split": ROWS.to_dict(orient="split")})
    predictions = np.asarray(answer.json()["predictions"])
    assert (predictions == np.asarray(TABLE["malignant"][:60])).mean() > 0.9


def test_it_is_served_again_after_the_agent_was_stopped(world: World, service: DeploymentView) -> None:
    world.stop_agent()
    world.start_agent()
    world.wait_until(lambda: world.alice.site("leeds").link == "online")
    world.wait_until(lambda: httpx.get(f"{service.url}/ping").status_code == 200)
    assert world.eng.wait_deployment("neighbours").state == "healthy"


# -- moved by nobody ---------------------------------------------------------------------------------------------------


def test_no_image_of_it_is_built(world: World, version: ModelVersionView) -> None:
    with pytest.raises(DeniedError) as caught:
        world.eng.build_image(version.name, version.version)
    _named(caught.value)


def test_it_is_not_deployed_at_another_site(world: World, version: ModelVersionView) -> None:
    if "turin" not in {site.name for site in world.eng.sites()}:
        world.clients["jo"].create_site("turin")
    with pytest.raises(DeniedError) as caught:
        world.eng.deploy("elsewhere", model=version, image=None, site="turin")
    _named(caught.value)


def test_the_api_gives_no_file_of_it(world: World, version: ModelVersionView, resident: JobView) -> None:
    http: Transport = world.eng._http
    for path in (
        f"/api/v1/models/{version.name}/versions/{version.version}/files",
        f"/api/v1/models/{version.name}/versions/{version.version}/files/model.skops",
        f"/api/v1/jobs/{resident.id}/outputs/model/files",
    ):
        with pytest.raises(DeniedError) as caught:
            http.call("GET", path)
        _named(caught.value)


def test_mlflows_client_is_told_why_it_gets_nothing(
    world: World, version: ModelVersionView, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = world.clients["admin"].create_token("mia", "data-scientist").token  # type: ignore[arg-type]
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{world.url}/mlflow")
    world.eng.alias_model(version.name, "here", version.version)
    for reference in (f"models:/{version.name}/{version.version}", f"models:/{version.name}@here"):
        with pytest.raises(MlflowException, match="resident at leeds"):
            mlflow.artifacts.download_artifacts(reference, dst_path=str(tmp_path))
    assert not list(tmp_path.rglob("*"))


def test_a_signed_deployment_of_it_with_an_image_is_refused(world: World, version: ModelVersionView) -> None:
    """An image that somebody built elsewhere and a signature don't make it movable."""
    envelope = sign_deployment(
        name="smuggled",
        site="leeds",
        revision=1,
        model=DeployedModel(name=version.name, version=version.version, digest=version.digest),
        image=Digest("sha256:" + "0" * 64),
        base=version.tags["insitu.base"],
        lock=version.tags["insitu.lock"],
        port=None,
        resources=ServingResources(),
        submitter="eng",
        key=world.keys["eng"],
        now=datetime.now(UTC),
    )
    body = DeploymentRequest(envelope=envelope).model_dump_json().encode()
    headers = {"Content-Type": "application/json"}
    with pytest.raises(DeniedError) as caught:
        world.eng._http.call("POST", "/api/v1/deployments", content=body, headers=headers)
    _named(caught.value)


def test_a_second_verdict_does_not_let_it_go(world: World, resident: JobView) -> None:
    (item,) = [item for item in world.console("release_list") if item["job_id"] == resident.id]
    terms = world.console("release_terms", id=item["id"])
    document = verdict_document(
        release_id=item["id"],
        digest=terms["digest"],
        verdict=ReviewVerdict.APPROVE,
        reason="",
        policy_version=terms["policy_version"],
        ledger_entries=terms["ledger_entries"],
        ledger_hash=terms["ledger_hash"],
        now=datetime.now(UTC),
    )
    envelope = sign_verdict(document, world.keys["jo"]).model_dump(mode="json")
    with pytest.raises(DeniedError) as caught:
        world.console("release_decide", id=item["id"], envelope=envelope)
    assert (caught.value.rule, caught.value.limit) == ("resident", "served at this site only")
    assert caught.value.hint


def _named(error: DeniedError) -> None:
    assert (error.code, error.rule) == ("resident", "resident")
    assert error.limit == "served at leeds only"
    assert "--site leeds" in error.hint


# -- by the policy alone -----------------------------------------------------------------------------------------------


def test_a_policy_may_let_models_stay_without_a_reviewer(world: World) -> None:
    release = json.dumps(
        {
            "metrics": {"digits": 4, "max_count": 5000, "per_second": 5000},
            "params": {"max_bytes": "8kB"},
            "logs": {"mode": "scanned", "max_bytes": "256kB"},
            "models": {"formats": ["skops"], "max_bytes": "5MB", "otherwise": "resident"},
        }
    )
    world.write_policy(release=release)
    try:
        job = world.alice.submit(EXAMPLE, changes={"inputs.estimator": "knn", "inputs.C": "2.0"})
        job = world.alice.wait(job.id, timeout_s=240)
    finally:
        world.write_policy()
    (output,) = job.outputs
    assert job.state == "succeeded", (output, world.logs())
    assert (output.verdict, output.rule, output.review) == ("resident", "rows-in-model", "")
    (found,) = [one for one in world.eng.model_versions("breast-cancer") if one.job_id == job.id]
    assert found.resident == "leeds"
