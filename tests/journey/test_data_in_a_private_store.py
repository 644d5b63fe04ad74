"""The site's data lies in a blob store at an address of its own; jobs read a verified copy of the version they name."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from insitu.agent.catalogue import data_cache, find_dataset
from insitu.wire.people import JobView
from tests.rig import World
from tests.services import Azurite

READ = """
import os, pathlib
data = pathlib.Path(os.environ["INSITU_INPUT_PATIENTS"])
print(sorted(str(path.relative_to(data)) for path in data.rglob("*") if path.is_file()))
try:
    next(data.rglob("*.csv")).write_text("x")
    print("written")
except OSError as error:
    print("read-only", error.errno)
"""
NAME = "studien/größe 1.csv"


@dataclass
class Site:
    """A world whose site has a datastore `blobs` in Azurite, and versions of `studies` in it."""

    world: World
    container: Any

    def put(self, name: str, rows: int, *, seed: float = 0.5) -> None:
        lines = ["a,b", *(f"{at + seed:.3f},{at * 7 % 113}" for at in range(rows))]
        self.container.upload_blob(name, "\n".join(lines) + "\n", overwrite=True)

    def add(self) -> dict[str, Any]:
        asked = {"name": "studies", "datastore": "blobs", "path": "studien/*.csv", "format": "csv"}
        added = self.world.console("data_add", description="from a blob store", **asked)
        wanted = ("studies", added["version"])
        self.world.wait_until(lambda: wanted in [(one.name, one.version) for one in self.world.alice.datasets()])
        return added

    def run(self, version: int, script: str = READ, *, mode: str = "ro_mount") -> JobView:
        folder = self.world.job_folder(script)
        job = folder / "job.yaml"
        job.write_text(job.read_text().replace("dataset: wdbc@1", f"dataset: studies@{version}, mode: {mode}"))
        return self.world.alice.wait(self.world.alice.submit(job).id, timeout_s=90)

    def evict(self, version: int) -> None:
        """As the cache does when it needs the room; here, from outside, while no job runs."""
        data_cache(self.world.site).drop(find_dataset(self.world.site, "studies", version).staged)


@pytest.fixture(scope="module")
def site(world: World, azurite: Azurite) -> Iterator[Site]:
    container = azurite.container("private-studies")
    world.console(
        "datastore_add",
        name="blobs",
        url="az://private-studies",
        endpoint=azurite.endpoint,
        secret=f"account_key: {azurite.key}",
    )
    grant = "{who: [alice], purpose: screening, until: 2099-12-31, runs: 50}"
    world.write_policy(datasets=f"{{wdbc: {grant}, studies: {grant}}}")
    yield Site(world, container)
    world.write_policy()


def insitu(site: Site, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "insitu.cli", *words, "--dir", str(site.world.site.root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def test_a_check_says_that_all_is_well(site: Site) -> None:
    found = site.world.console("datastore_check", name="blobs")
    assert [(step["step"], step["state"]) for step in found["steps"][:3]] == [
        ("reach", "ok"),
        ("login", "ok"),
        ("list", "ok"),
    ]
    assert found["state"] == "ok"


def test_a_job_reads_a_version_that_lies_in_the_store(site: Site) -> None:
    site.put(NAME, 200)
    site.put("studien/b.csv", 100, seed=0.25)
    added = site.add()
    assert (added["rows"], added["files"]) == (300, 2)
    job = site.run(added["version"])
    assert job.state == "succeeded", site.world.logs()
    said = site.world.log_text(job.id)
    assert "read-only" in said
    assert site.world.console("data_show", name="studies", version=added["version"])["staged"] is True


def test_an_evicted_version_is_staged_again_for_the_next_job(site: Site) -> None:
    added = site.add()
    site.evict(added["version"])
    assert site.world.console("data_show", name="studies", version=added["version"])["staged"] is False
    assert site.run(added["version"]).state == "succeeded", site.world.logs()


def test_a_job_may_have_a_copy_of_its_own_that_it_writes(site: Site) -> None:
    added = site.add()
    job = site.run(added["version"], mode="download")
    assert job.state == "succeeded", site.world.logs()
    assert "written" in site.world.log_text(job.id)
    assert "read-only" in site.world.log_text(site.run(added["version"]).id), "what others read was not written to"


def test_an_object_that_changed_under_a_version_ends_the_job_and_names_the_version_alone(site: Site) -> None:
    added = site.add()
    site.evict(added["version"])
    site.put("studien/b.csv", 100, seed=0.75)
    job = site.run(added["version"])
    assert (job.state, job.failure, job.reason.code) == ("failed", "data", "dataset-changed")
    assert f"studies@{added['version']}" in job.reason.what
    assert "b.csv" not in job.model_dump_json()
    assert "studien/b.csv is not the object that was listed" in (site.world.folder / "agent.log").read_text()
    assert site.run(site.add()["version"]).state == "succeeded", "what was changed is a new version"


def test_a_store_that_says_no_ends_the_job_without_a_word_of_what_it_said(site: Site, azurite: Azurite) -> None:
    added = site.add()
    site.evict(added["version"])
    expired = azurite.sas(hours=-1)
    again = {"name": "blobs", "url": "az://private-studies", "endpoint": azurite.endpoint, "replace": True}
    site.world.console("datastore_add", secret=f"sas_token: {expired}", **again)
    checked = insitu(site, "datastore", "check", "blobs", "--json", check=False)
    assert checked.returncode == 1
    steps = {step["step"]: step for step in json.loads(checked.stdout)["steps"]}
    assert steps["login"]["code"] == "store-token-expired"
    job = site.run(added["version"])
    site.world.console("datastore_add", secret=f"account_key: {azurite.key}", **again)
    assert (job.state, job.failure, job.reason.code) == ("failed", "data", "store-token-expired")
    told = job.model_dump_json()
    assert "private-studies" not in told
    assert azurite.endpoint not in told
    assert expired.rpartition("sig=")[2] not in told


def test_local_files_go_up_and_what_is_there_is_not_sent_again(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "neu"
    folder.mkdir()
    for at in range(3):
        (folder / f"ä{at}.csv").write_text("a,b\n" + "".join(f"{row}.5,{row + at}\n" for row in range(50)))
    first = json.loads(
        insitu(site, "data", "upload", str(folder), "--datastore", "blobs", "--to", "up", "--json").stdout
    )
    assert (first["sent"], first["already_there"]) == (3, 0)
    (folder / "ä3.csv").write_text("a,b\n1,2\n")
    again = json.loads(
        insitu(site, "data", "upload", str(folder), "--datastore", "blobs", "--to", "up", "--json").stdout
    )
    assert (again["sent"], again["already_there"]) == (1, 3)
    assert sorted(blob.name for blob in site.container.list_blobs("up/")) == [f"up/neu/ä{at}.csv" for at in range(4)]


def test_a_version_that_jobs_had_is_deleted_only_by_who_is_sure(site: Site) -> None:
    added = site.add()
    reference = f"studies@{added['version']}"
    job = site.run(added["version"])
    site.world.wait_until(
        lambda: not site.world.console("data_uses", name="studies", version=added["version"])["in_use"]
    )
    unsure = insitu(site, "data", "delete", reference, check=False)
    assert unsure.returncode == 3
    assert job.id in unsure.stderr
    assert job.id in insitu(site, "data", "delete", reference, "--yes", "--json").stdout
    assert site.add()["version"] == added["version"] + 1, "a number means one version for good"


def test_an_archived_version_is_offered_to_nobody(site: Site) -> None:
    added = site.add()
    insitu(site, "data", "tag", f"studies@{added['version']}", "quality=checked")
    insitu(site, "data", "archive", f"studies@{added['version']}")
    site.world.wait_until(
        lambda: added["version"] not in [one.version for one in site.world.alice.datasets() if one.name == "studies"]
    )
    shown = site.world.console("data_show", name="studies", version=added["version"])
    assert shown["tags"] == {"quality": "checked"}
    assert shown["archived_at"]
    insitu(site, "data", "archive", f"studies@{added['version']}", "--undo")
    site.world.wait_until(
        lambda: added["version"] in [one.version for one in site.world.alice.datasets() if one.name == "studies"]
    )


@pytest.mark.parametrize(
    ("blob", "text", "code", "said"),
    [
        ("bad/row.csv", "a,b\n1,2\n3\n4,5\n", "data-broken", "line 3"),
        ("bad/empty.csv", "", "data-broken", "header"),
    ],
)
def test_what_is_no_table_is_told_with_its_line_at_the_site(
    site: Site, blob: str, text: str, code: str, said: str
) -> None:
    site.container.upload_blob(blob, text, overwrite=True)
    done = insitu(site, "data", "add", "broken", "--datastore", "blobs", "--path", blob, "--json", check=False)
    error = json.loads(done.stdout)["error"]
    assert error["code"] == code
    assert said in error["what"]
    assert not (site.world.site.datasets / "broken").exists()


def test_a_pattern_that_matches_nothing_says_so(site: Site) -> None:
    done = insitu(site, "data", "add", "none", "--datastore", "blobs", "--path", "nope/*.csv", "--json", check=False)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "data-path"


def test_a_column_may_be_named_like_a_path(site: Site) -> None:
    site.container.upload_blob("odd/x.csv", "../../etc/passwd,b\n1,2\n3,4\n5,6\n", overwrite=True)
    done = insitu(site, "data", "add", "odd", "--datastore", "blobs", "--path", "odd/*", "--json")
    assert [column["name"] for column in json.loads(done.stdout)["columns"]] == ["../../etc/passwd", "b"]
