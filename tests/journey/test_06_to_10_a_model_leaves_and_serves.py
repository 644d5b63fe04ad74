"""Steps 6 to 10: outputs are judged, ledgered, admitted, registered, built into an image, and served."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pytest

from insitu.cli.ledger import verify_file
from insitu.domain.digests import Digest, digest_of_file
from insitu.domain.errors import DeniedError, SignatureError
from insitu.domain.images import descriptor_from_oci
from insitu.images.base import describe_base
from insitu.images.layout import OciLayout
from insitu.images.unpack import unpack_layer
from insitu.sdk.client import Client
from insitu.wire.heads import parse_head
from insitu.wire.keys import SigningKey
from insitu.wire.ledger_exports import export_lines
from insitu.wire.people import DeploymentView, ImageView, JobView, ModelVersionView
from insitu.wire.verdicts import VerdictDocument, sign_verdict, verdict_document
from tests.journey.in_podman import ASK
from tests.rig import World, wdbc_table
from tests.services import cache_folder

EXAMPLE = Path(__file__).parents[2] / "examples" / "wdbc" / "job.yaml"
ROWS = wdbc_table().drop(columns="malignant")[:8]


def _run_example(world: World, **changes: str) -> JobView:
    client: Client = world.alice
    job = client.submit(EXAMPLE, changes={f"inputs.{name}": value for name, value in changes.items()})
    return client.wait(job.id, timeout_s=240)


@pytest.fixture(scope="session")
def logistic(world: World) -> JobView:
    job = _run_example(world)
    assert job.state == "succeeded", (job.reason, job.outputs, world.logs())
    return job


@pytest.fixture(scope="session")
def knn(world: World, logistic: JobView) -> JobView:
    assert logistic.state == "succeeded"
    return _run_example(world, estimator="knn")


@pytest.fixture(scope="session")
def version(world: World, logistic: JobView) -> ModelVersionView:
    world.wait_until(world.eng.models)
    (found,) = [one for one in world.eng.model_versions("breast-cancer") if one.job_id == logistic.id]
    return found


@pytest.fixture(scope="session")
def image(world: World, version: ModelVersionView) -> ImageView:
    built = world.eng.wait_image(world.eng.build_image(version.name, version.version).id)
    assert built.state == "ready", built.reason
    return built


@pytest.fixture(scope="session")
def deployment(world: World, version: ModelVersionView, image: ImageView) -> DeploymentView:
    world.eng.deploy("screening", model=version, image=image, site="leeds")
    found = world.eng.wait_deployment("screening")
    assert found.state == "healthy", (found.reason, world.logs())
    return found


# -- 6, 7: judged, ledgered, sent --------------------------------------------------------------------------------------


def test_a_linear_model_passes_and_its_metrics_are_rounded(logistic: JobView) -> None:
    (output,) = logistic.outputs
    assert (output.verdict, output.rule) == ("released", "clean"), output
    assert logistic.metrics["auc"] > 0.95
    assert all(float(f"{value:.4g}") == value for value in logistic.metrics.values())


def test_the_hub_countersigns_what_left_and_a_part_of_it_proves_itself(
    world: World, logistic: JobView, tmp_path: Path
) -> None:
    (entry,) = [one for one in world.ledger_entries() if one["kind"] == "file" and one["job_id"] == logistic.id]
    beside = world.site.ledger_head

    def covered() -> bool:
        return beside.exists() and json.loads(beside.read_text())["entries"] > entry["seq"]

    world.wait_until(covered, what=lambda: f"not countersigned: {world.logs()}")
    whole = verify_file(world.site.ledger, parse_head(beside.read_text()))
    assert whole["site_key"] == SigningKey.load(world.site.key).fingerprint
    assert whole["countersigned"] > entry["seq"]
    part = tmp_path / "part.jsonl"
    with world.site.ledger.open("rb") as stream:
        part.write_text("".join(export_lines(stream, lambda one: one.kind == "file", parse_head(beside.read_text()))))
    found = verify_file(part, None)
    assert found["hub_key"] == whole["hub_key"]
    assert found["exported"] == len([one for one in world.ledger_entries() if one["kind"] == "file"])


def test_what_nobody_declared_stays_and_is_counted(logistic: JobView) -> None:
    assert sum(logistic.kept.values()) > 0
    assert "wdbc" not in json.dumps(logistic.kept)


def test_every_released_byte_has_an_entry_that_came_before_it(world: World, logistic: JobView) -> None:
    entries = {entry["seq"]: entry for entry in world.ledger_entries()}
    items = world.alice.egress(logistic.id)
    assert items
    for item in items:
        entry = entries[item.entry]
        assert entry["job_id"] == logistic.id
        assert entry["kind"] in {"batch", "file"}
    (released,) = [entry for entry in entries.values() if entry["kind"] == "file" and entry["job_id"] == logistic.id]
    assert (released["decision"], released["digest"]) == ("released", logistic.outputs[0].digest)


def test_a_model_that_stores_its_training_rows_is_held_because_it_does(knn: JobView) -> None:
    assert knn.state == "held"
    (output,) = knn.outputs
    assert (output.verdict, output.rule, output.limit) == ("held", "rows-in-model", "0 rows")
    assert output.measure == "426 of the dataset's 569 rows"
    assert output.hint
    assert output.model_version is None


def _verdict(world: World, knn: JobView, verdict: str, *, digest: str = "") -> tuple[str, VerdictDocument]:
    (brief,) = [item for item in world.console("release_list") if item["job_id"] == knn.id]
    shown = world.console("release_show", id=brief["id"])
    document = verdict_document(
        release_id=shown["id"],
        digest=digest or shown["digest"],
        verdict=verdict,  # type: ignore[arg-type]
        reason="it holds patients' rows",
        policy_version=shown["policy_version"],
        ledger_entries=shown["ledger_entries"],
        ledger_hash=shown["ledger_hash"],
        now=datetime.now(UTC),
    )
    return shown["id"], document


@pytest.mark.parametrize("who", ["stranger", "alice", "eng"])
def test_nobody_but_a_listed_reviewer_decides(world: World, knn: JobView, who: str) -> None:
    item, document = _verdict(world, knn, "approve")
    key = SigningKey.generate() if who == "stranger" else world.keys[who]
    with pytest.raises((SignatureError, DeniedError)) as caught:
        world.console("release_decide", id=item, envelope=sign_verdict(document, key).model_dump())
    assert caught.value.exit_code == 3


def test_nobody_reviews_their_own_job_even_when_the_policy_names_them(world: World, knn: JobView) -> None:
    item, document = _verdict(world, knn, "approve")
    world.write_policy(review=json.dumps({"reviewers": {"al": world.keys["alice"].fingerprint}}))
    try:
        envelope = sign_verdict(document, world.keys["alice"]).model_dump()
        with pytest.raises(DeniedError) as caught:
            world.console("release_decide", id=item, envelope=envelope)
        assert caught.value.code == "own-job"
    finally:
        world.write_policy()


def test_a_verdict_over_other_bytes_decides_nothing(world: World, knn: JobView) -> None:
    item, document = _verdict(world, knn, "approve", digest="sha256:" + "0" * 64)
    with pytest.raises(DeniedError, match="something else"):
        world.console("release_decide", id=item, envelope=sign_verdict(document, world.keys["jo"]).model_dump())


def test_a_rejection_reaches_the_data_scientist_with_its_reason(world: World, knn: JobView) -> None:
    item, document = _verdict(world, knn, "reject")
    world.console("release_decide", id=item, envelope=sign_verdict(document, world.keys["jo"]).model_dump())
    refused = world.wait_for_state(knn.id, "refused")
    assert "patients' rows" in refused.reason.hint
    assert world.eng.model_versions("breast-cancer")[0].job_id != knn.id


# -- 8, 9: admitted, registered, built ---------------------------------------------------------------------------------


def test_the_model_version_has_its_whole_lineage(world: World, logistic: JobView, version: ModelVersionView) -> None:
    assert version.version == 1
    assert version.digest == logistic.outputs[0].digest
    assert version.run_id == logistic.run_id
    expected = {
        "insitu.job": logistic.id,
        "insitu.site": "leeds",
        "insitu.code": logistic.code,
        "insitu.lock": logistic.lock,
        "insitu.base": logistic.base,
        "insitu.policy_version": "7",
    }
    assert expected.items() <= version.tags.items()
    assert "wdbc@1 sha256:" in version.tags["insitu.datasets"]
    aliased = world.eng.alias_model("breast-cancer", "champion", 1)
    assert aliased.aliases == ["champion"]
    assert world.eng.model("breast-cancer@champion").version == 1


def test_the_image_is_the_same_bytes_when_it_is_built_again(world: World, image: ImageView) -> None:
    again = world.eng.wait_image(world.eng.build_image(image.model, image.version).id)
    assert again.digest == image.digest


def test_the_image_s_packages_are_those_that_the_job_was_trained_with(
    world: World, image: ImageView, tmp_path: Path
) -> None:
    """Hub and site got their wheels apart from each other, each by the hashes that were signed."""
    layout = OciLayout(world.folder / "hub" / "images")
    below = describe_base(layout, Digest(image.base)).layers
    for fields in layout.manifest(Digest(image.digest))["layers"]:
        layer = descriptor_from_oci(fields, what="layer")
        if layer.digest not in below:
            unpack_layer(layout, layer, tmp_path, diff_id=None, max_bytes=4 << 30)
    in_image, at_site = _contents(tmp_path / "opt" / "env"), _contents(_tree_of(image.lock))
    assert len(in_image) > 1000
    assert in_image == at_site


def _tree_of(lock: str) -> Path:
    """The environment that the site has made of a lock."""
    for path in (cache_folder() / "site-cache" / "environments").glob("*/environment.json"):
        if json.loads(path.read_bytes())["lock"] == lock:
            return path.parent / "tree"
    raise AssertionError(f"the site has no environment of {lock}")


def _contents(tree: Path) -> dict[str, str]:
    return {
        str(path.relative_to(tree)): str(path.readlink()) if path.is_symlink() else digest_of_file(path)
        for path in tree.rglob("*")
        if path.is_symlink() or path.is_file()
    }


# -- 10: served --------------------------------------------------------------------------------------------------------


def test_a_deployment_answers_as_mlflow_and_as_the_open_inference_protocol(deployment: DeploymentView) -> None:
    table = {"dataframe_split": ROWS.to_dict(orient="split")}
    predictions = httpx.post(f"{deployment.url}/invocations", json=table).json()["predictions"]
    assert set(predictions) <= {0, 1}
    tensor = {
        "name": "rows",
        "shape": list(ROWS.shape),
        "datatype": "FP64",
        "data": np.asarray(ROWS).ravel().tolist(),
    }
    reply = httpx.post(f"{deployment.url}/v2/models/breast-cancer/infer", json={"inputs": [tensor]}).json()
    assert reply["outputs"][0]["data"] == predictions


def test_the_image_in_podman_predicts_what_the_deployment_predicts(
    world: World, podman: Callable[..., str], image: ImageView, deployment: DeploymentView
) -> None:
    layout = OciLayout(world.folder / "hub" / "images", create=False)
    name = podman("pull", "--quiet", f"oci:{layout.path}:{image.reference}").strip()
    sealed = ["--network=none", "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges"]
    container = podman("run", "--detach", *sealed, name).strip()
    body = {"dataframe_split": ROWS.to_dict(orient="split")}
    answer = podman("exec", container, "/opt/env/bin/python", "-c", ASK.replace("BODY", json.dumps(body)))
    reply = httpx.post(f"{deployment.url}/invocations", json=body).json()
    assert json.loads(answer)["predictions"] == reply["predictions"]
    podman("rm", "--force", "--time", "0", container)


def test_a_deleted_deployment_is_gone_at_the_site(world: World, deployment: DeploymentView) -> None:
    world.eng.delete_deployment(deployment.name)
    gone = world.eng.wait_deployment(deployment.name, until=("gone",))
    assert gone.state == "gone"
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{deployment.url}/ping")
