"""A model in ONNX that stays at its site: built into an image there, and asked by whoever may."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from insitu.domain.digests import Digest
from insitu.images.layout import OciLayout
from insitu.wire.people import DeploymentView
from tests.rig import World, wdbc_table

SCRIPT = """
import os
import mlflow, mlflow.onnx, pandas, skl2onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

table = pandas.read_csv(os.environ["INSITU_INPUT_PATIENTS"] + "/wdbc.csv")
labels = table.pop("malignant")
rows = table.to_numpy()[:, :4]
fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels)
graph = skl2onnx.convert_sklearn(
    fitted, initial_types=[("x", FloatTensorType([None, 4]))], options={id(fitted[-1]): {"zipmap": False}}
)
mlflow.onnx.save_model(graph, os.environ["INSITU_OUTPUTS"] + "/model")
"""
REQUIREMENTS = "mlflow-skinny\nonnx\nonnxruntime\nskl2onnx\nscikit-learn\npandas\n"
TABLE = wdbc_table()


@pytest.fixture(scope="module")
def service(world: World) -> Iterator[DeploymentView]:
    """A policy that lets every model stay, and nothing that was learnt leave."""
    models = {"formats": ["onnx"], "max_bytes": "5MB", "precision": "bfloat16", "otherwise": "resident"}
    world.write_policy(release=json.dumps({"models": models}))
    job = world.run(
        SCRIPT,
        requirements=REQUIREMENTS,
        outputs="{model: {type: mlflow_model, register: screening-onnx}}",
        timeout_s=300,
    )
    assert job.state == "succeeded", (job.reason, job.outputs, world.logs())
    assert (job.outputs[0].verdict, job.outputs[0].rule) == ("resident", "ceiling")
    (version,) = world.eng.model_versions("screening-onnx")
    world.eng.deploy("onnx", model=version, image=None, site="leeds")
    found = world.eng.wait_deployment("onnx")
    assert found.state == "healthy", (found.reason, world.logs())
    yield found
    world.eng.delete_deployment("onnx")
    world.eng.wait_deployment("onnx", until=("gone",))
    world.write_policy()


def test_it_answers_at_its_site(service: DeploymentView) -> None:
    rows, labels = TABLE.drop(columns="malignant").to_numpy()[:, :4], np.asarray(TABLE["malignant"])
    answer = httpx.post(f"{service.url}/invocations", json={"inputs": rows.tolist()})
    assert answer.status_code == 200, answer.text
    assert (np.asarray(answer.json()["predictions"]) == labels).mean() > 0.85


def test_its_image_holds_the_graph_and_lies_at_the_site(world: World, service: DeploymentView) -> None:
    images = OciLayout(world.site.deployments / "images", create=False)
    assert images.manifest(Digest(service.image))["annotations"]["org.insitu.model.name"] == "screening-onnx"
    unpacked = world.site.deployments / "unpacked" / service.image.removeprefix("sha256:") / "opt" / "model"
    assert (unpacked / "model.onnx").is_file()
