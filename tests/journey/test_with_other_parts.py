"""The same story with other parts: jobs in Podman and in Docker, a hub over PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rig import World, running_world

SCRIPT = """
import json, os
out = os.environ["INSITU_OUTPUTS"] + "/report"
os.makedirs(out)
with open(out + "/report.json", "w") as f:
    json.dump({"files": len(os.listdir(os.environ["INSITU_INPUT_PATIENTS"]))}, f)
print("written")
"""


def _a_job_s_output_arrives(world: World) -> None:
    job = world.run(SCRIPT, outputs="{report: {type: uri_folder}}")
    assert job.state == "succeeded", (job.reason, world.logs())
    assert world.log_text(job.id) == "written"
    assert [(output.name, output.verdict) for output in job.outputs] == [("report", "released")]
    assert world.alice.site("leeds").sandbox == world.sandbox


@pytest.mark.parametrize("sandbox", ["podman", "docker"])
def test_a_job_runs_in_an_engine(
    tmp_path_factory: pytest.TempPathFactory, base_layout: Path, request: pytest.FixtureRequest, sandbox: str
) -> None:
    socket = request.getfixturevalue("docker_socket") if sandbox == "docker" else Path("/nonexistent")
    folder = tmp_path_factory.mktemp("w")
    with running_world(folder, base_layout, sandbox=sandbox, docker_socket=socket) as world:
        _a_job_s_output_arrives(world)


def test_a_hub_over_postgresql_tells_the_same_story(
    tmp_path_factory: pytest.TempPathFactory, base_layout: Path, postgres_database: str
) -> None:
    folder = tmp_path_factory.mktemp("w")
    with running_world(folder, base_layout, database_url=postgres_database) as world:
        _a_job_s_output_arrives(world)
        (job,) = world.alice.jobs()
        world.wait_until(lambda: world.alice.job(job.id).run_id)
    assert not list((folder / "hub").glob("*.sqlite3"))
