"""Step 6: what was written and what would leave are asked the same rows, in a sandbox, before anything leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from insitu.gate.smoke import RULE
from tests.rig import World

EXAMPLE = Path(__file__).parents[2] / "examples" / "wdbc" / "job.yaml"


@pytest.fixture(scope="module", autouse=True)
def smoke_policy(world: World) -> Iterator[None]:
    text = world.site.policy.read_text()
    world.site.policy.write_text(text.replace("models: {", "models: {smoke: {rows: 50, tolerance: 0.02}, "))
    yield
    world.write_policy()


def evidence(world: World, job_id: str) -> dict[str, Any]:
    (item,) = [item for item in world.console("release_list") if item["job_id"] == job_id]
    decision: dict[str, Any] = world.console("release_show", id=item["id"])["decision"]
    return decision


def test_a_model_that_predicts_as_before_leaves_and_that_is_on_record(world: World) -> None:
    job = world.alice.wait(world.alice.submit(EXAMPLE).id, timeout_s=240)
    assert job.state == "succeeded", (job.reason, job.outputs, world.logs())
    assert RULE in evidence(world, job.id)["checks"]
    assert not [path for path in (world.site.jobs / f"{job.id}-1").glob("smoke-*") if path.exists()]


FAILS_ON_OUR_ROWS = """
import mlflow, mlflow.sklearn, pandas as pd
from mlflow.models import infer_signature
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

words = pd.DataFrame({"weight": [1.0, 2.0, 3.0, 4.0], "elsewhere": [0.0, 1.0, 0.0, 1.0]})
model = make_pipeline(StandardScaler(), LogisticRegression()).fit(words, [0, 1, 0, 1])
model.steps[1][1].coef_ = model.steps[1][1].coef_[:, :1]  # it can't predict any more
with mlflow.start_run():
    mlflow.sklearn.log_model(model, name="model", serialization_format="skops")
"""


def test_a_model_that_can_not_predict_is_held_and_says_so(world: World) -> None:
    requirements = (EXAMPLE.parent / "requirements.txt").read_text()
    job = world.run(
        FAILS_ON_OUR_ROWS, requirements=requirements, outputs="{model: {type: mlflow_model}}", timeout_s=240
    )
    assert job.state == "held", (job.reason, job.outputs, world.log_text(job.id), world.logs())
    (output,) = job.outputs
    assert (output.rule, output.verdict) == (RULE, "held")
    assert "does not predict on the site's rows" in output.measure
    assert output.hint
    assert evidence(world, job.id)["not_checked"] == [RULE]
