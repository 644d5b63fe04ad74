"""A job reads data through its gate: nothing of it is staged, what changed is noticed, a restarted agent goes on giving."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from insitu.agent.catalogue import data_cache, find_dataset
from insitu.wire.people import JobView
from tests.rig import World
from tests.services import Azurite

READ = """
import json, os, sys, urllib.request
url = os.environ["INSITU_INPUT_PATIENTS"]
print("the same", url == sys.argv[1], os.path.exists("/job/inputs/patients"))
rows = 0
for one in json.load(urllib.request.urlopen(url))["objects"]:
    rows += urllib.request.urlopen(one["url"]).read().count(b"\\n") - 1
    part = urllib.request.Request(one["url"], headers={"Range": "bytes=0-2"})
    print("head", urllib.request.urlopen(part).read() == b"a,b")
print("rows right", rows == 300)
"""
READ_ON = """
import json, os, time, urllib.request
one = json.load(urllib.request.urlopen(os.environ["INSITU_INPUT_PATIENTS"]))["objects"][0]
right = 0
for turn in range(120):
    part = urllib.request.Request(one["url"], headers={"Range": "bytes=0-2"})
    right += urllib.request.urlopen(part).read() == b"a,b"
    if turn == 5:
        print("reading", flush=True)
    time.sleep(0.05)
print("all right", right == 120)
"""


@dataclass
class Blobs:
    """A datastore of the site, and the dataset `events` in it."""

    world: World
    container: Any

    def put(self, name: str, rows: int) -> None:
        lines = ["a,b", *(f"{at + 0.5:.3f},{at * 7 % 113}" for at in range(rows))]
        self.container.upload_blob(name, "\n".join(lines) + "\n", overwrite=True)

    def add(self) -> int:
        """A version of what is there, none of which is kept at the site."""
        asked = {"name": "events", "datastore": "streamed", "path": "*.csv", "format": "csv", "description": ""}
        version = self.world.console("data_add", **asked)["version"]
        self.world.wait_until(
            lambda: ("events", version) in [(one.name, one.version) for one in self.world.alice.datasets()]
        )
        data_cache(self.world.site).drop(find_dataset(self.world.site, "events", version).staged)
        return version

    def submit(self, version: int, script: str) -> str:
        folder = self.world.job_folder(script, command="python train.py ${{inputs.patients}}")
        job = folder / "job.yaml"
        job.write_text(job.read_text().replace("dataset: wdbc@1", f"dataset: events@{version}, mode: direct"))
        return self.world.alice.submit(job).id

    def run(self, version: int, script: str = READ) -> JobView:
        return self.world.alice.wait(self.submit(version, script), timeout_s=90)


@pytest.fixture(scope="module")
def blobs(world: World, azurite: Azurite) -> Iterator[Blobs]:
    container = azurite.container("streamed-events")
    world.console(
        "datastore_add",
        name="streamed",
        url="az://streamed-events",
        endpoint=azurite.endpoint,
        secret=f"account_key: {azurite.key}",
    )
    grant = "{who: [alice], purpose: screening, until: 2099-12-31, runs: 50}"
    world.write_policy(datasets=f"{{wdbc: {grant}, events: {grant}}}")
    made = Blobs(world, container)
    made.put("a.csv", 200)
    made.put("größe 2.csv", 100)
    yield made
    world.write_policy()


def test_a_job_reads_objects_by_their_addresses_and_nothing_is_staged(blobs: Blobs) -> None:
    version = blobs.add()
    job = blobs.run(version)
    said = blobs.world.log_text(job.id)
    assert job.state == "succeeded", (job.reason, said, blobs.world.logs())
    assert said == "the same True False\nhead True\nhead True\nrows right True"
    assert blobs.world.console("data_show", name="events", version=version)["staged"] is False


def test_the_steward_sees_what_was_read_and_no_budget_pays_for_it(blobs: Blobs) -> None:
    version = blobs.add()
    job = blobs.run(version)
    (meter,) = blobs.world.console("meter_show", job=job.id)
    size = blobs.world.console("data_show", name="events", version=version)["size_bytes"]
    assert meter["read_bytes"] == {f"events@{version}": size + 2 * 3}
    assert meter["left_bytes"] < 1000


def test_an_object_that_changed_under_a_version_fails_the_job_whatever_the_script_makes_of_it(blobs: Blobs) -> None:
    version = blobs.add()
    blobs.put("größe 2.csv", 101)
    tolerant = READ.replace("rows += ", "\n    try:\n        rows += ").replace(
        " - 1\n", ' - 1\n    except OSError as error:\n        print("told", "409" in str(error))\n        continue\n'
    )
    job = blobs.run(version, tolerant)
    assert (job.state, job.failure, job.reason.code) == ("failed", "data", "dataset-changed"), blobs.world.logs()
    assert f"events@{version}" in job.reason.what
    assert "csv" not in f"{job.reason}", "names of objects stay at the site"
    assert "told True" in blobs.world.log_text(job.id)
    blobs.put("größe 2.csv", 100)


def test_a_first_object_that_changed_is_noticed_before_any_code_runs(blobs: Blobs) -> None:
    version = blobs.add()
    blobs.put("a.csv", 201)
    job = blobs.run(version)
    assert (job.state, job.failure, job.reason.code) == ("failed", "data", "dataset-changed")
    assert "a.csv" not in f"{job.reason}", "names of objects stay at the site"
    assert blobs.world.log_text(job.id) == ""
    blobs.put("a.csv", 200)


def test_a_job_reads_on_when_its_agent_starts_anew(blobs: Blobs) -> None:
    job_id = blobs.submit(blobs.add(), READ_ON)
    blobs.world.wait_until(lambda: "reading" in blobs.world.log_text(job_id))
    blobs.world.stop_agent()
    blobs.world.start_agent()
    job = blobs.world.alice.wait(job_id, timeout_s=90)
    assert job.state == "succeeded", (job.reason, blobs.world.logs())
    assert "all right True" in blobs.world.log_text(job_id)
