"""The hub with MLflow itself: what a job told is in its run, and what was released is a version."""

import pytest

from insitu.hub.loops import write_mlflow
from tests.unit.hub.hub_world import a_hub, a_running_job


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request, tmp_path):
    url = "" if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    with a_hub(tmp_path / "hub", database_url=url, real_mlflow=True) as found:
        found.parts.tracking.wait_ready(120)
        yield found


def test_a_jobs_run_and_version_are_in_mlflow(world):
    alice, leeds = world.person("alice"), world.site()
    job_id = a_running_job(world, alice, leeds)
    leeds.tell(
        job_id,
        {"kind": "metric", "key": "auc", "value": 0.9, "step": 1, "timestamp_ms": 1764000000000},
        {"kind": "param", "key": "C", "value": "1.0"},
        {"kind": "run", "run": "c1", "name": "fold 1"},
        {"kind": "metric", "run": "c1", "key": "loss", "value": 0.1, "timestamp_ms": 1764000000000},
    )
    leeds.state(job_id, "judging", "releasing")
    assert leeds.release(job_id).json()["version"] == 1
    leeds.state(job_id, "succeeded")
    write_mlflow.step(world.parts)

    run_id = alice.job(job_id)["run_id"]
    run = alice.get(f"/mlflow/api/2.0/mlflow/runs/get?run_id={run_id}").json()["run"]
    assert run["info"]["status"] == "FINISHED"
    assert [(metric["key"], metric["value"]) for metric in run["data"]["metrics"]] == [("auc", 0.9)]
    assert {"key": "C", "value": "1.0"} in run["data"]["params"]
    version = alice.get("/api/v1/models/breast-cancer/versions/1").json()
    assert (version["run_id"], version["site"]) == (run_id, "leeds")
    assert alice.put("/api/v1/models/breast-cancer/aliases", {"alias": "champion", "version": 1}).status_code == 200
    assert alice.get("/api/v1/models").json()["items"][0]["aliases"] == ["champion"]


def test_mlflows_pages_are_for_people_with_a_token_and_read_only(world):
    alice = world.person("alice")
    assert world.client.get("/mlflow/").status_code == 401
    assert alice.get("/mlflow/").status_code == 200
    refused = alice.post("/mlflow/api/2.0/mlflow/runs/create", {"experiment_id": "0"})
    assert refused.status_code in {403, 404}
