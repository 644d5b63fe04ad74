"""Data for which the site's cache has no room: added without being copied, read directly, and not mounted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from insitu.wire.people import JobView
from tests.rig import World
from tests.services import Azurite

READ = """
import json, os, urllib.request
given = os.environ["INSITU_INPUT_PATIENTS"]
rows = 0
for one in json.load(urllib.request.urlopen(given))["objects"]:
    rows += urllib.request.urlopen(one["url"]).read().count(b"\\n") - 1
print("rows right", rows == 60_000)
"""


@pytest.fixture
def small_cache(world: World) -> Iterator[World]:
    """The site, with a cache that holds its first table and little more."""
    settings = yaml.safe_load(world.site.settings.read_text())
    world.stop_agent()
    world.site.settings.write_text(yaml.safe_dump({**settings, "data_cache": 300_000}))
    world.start_agent()
    grant = "{who: [alice], purpose: screening, until: 2099-12-31, runs: 50}"
    world.write_policy(datasets=f"{{wdbc: {grant}, readings: {grant}}}")
    yield world
    world.stop_agent()
    world.site.settings.write_text(yaml.safe_dump(settings))
    world.start_agent()
    world.write_policy()


def _run(world: World, mode: str) -> JobView:
    folder = world.job_folder(READ)
    job = folder / "job.yaml"
    job.write_text(job.read_text().replace("dataset: wdbc@1", f"dataset: readings@1, mode: {mode}"))
    return world.alice.wait(world.alice.submit(job).id, timeout_s=90)


def test_data_larger_than_the_cache_is_added_and_read_directly_and_not_mounted(
    small_cache: World, azurite: Azurite
) -> None:
    world = small_cache
    container = azurite.container("readings")
    for number in range(3):
        lines = [f"{number * 20_000 + at + 0.5:.3f},{at * 7 % 113}" for at in range(20_000)]
        container.upload_blob(f"{number}.csv", "\n".join(["a,b", *lines, ""]))
    key = f"account_key: {azurite.key}"
    world.console("datastore_add", name="far", url="az://readings", endpoint=azurite.endpoint, secret=key)
    asked = {"name": "readings", "datastore": "far", "path": "*.csv", "format": "csv", "description": ""}
    added = world.console("data_add", **asked)
    assert added["size_bytes"] > 700_000
    assert world.console("data_show", name="readings", version=1)["staged"] is False
    kept = sum(path.stat().st_size for path in (world.site.cache / "objects").rglob("*") if path.is_file())
    assert kept < 300_000, "nothing of it was copied"
    world.wait_until(lambda: any(one.name == "readings" for one in world.alice.datasets()))

    read = _run(world, "direct")
    assert read.state == "succeeded", (read.reason, world.log_text(read.id), world.logs())
    assert world.log_text(read.id) == "rows right True"

    mounted = _run(world, "ro_mount")
    assert (mounted.state, mounted.failure, mounted.reason.code) == ("failed", "data", "data-cache-small")
    assert (mounted.reason.rule, mounted.reason.limit) == ("data_cache", "300 kB")
    assert mounted.reason.measure
    assert "mode: direct" in mounted.reason.hint
