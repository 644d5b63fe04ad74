"""A job that writes more than the site gives it is ended, says why, and leaves nothing on the disk."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rig import World

SANDBOX = "{memory: 4GiB, cpus: 2, gpus: 0, timeout: 6h, processes: 256, disk: 8MB%s}"

MANY_FILES = """
import os, time
for number in range(10_000):
    with open(f"{os.environ['INSITU_OUTPUTS']}/{number}", "wb") as stream:
        stream.write(os.urandom(1_000_000))
    if number > 40:
        time.sleep(60)
"""
ONE_FILE = """
import os
with open(os.environ["INSITU_OUTPUTS"] + "/one", "wb") as stream:
    for _ in range(100):
        stream.write(os.urandom(1_000_000))
"""
ENDS_AT_ONCE = """
import os
for number in range(12):
    with open(f"{os.environ['INSITU_OUTPUTS']}/{number}", "wb") as stream:
        stream.write(os.urandom(1_000_000))
"""
SPARSE = """
import os
with open(os.environ["INSITU_OUTPUTS"] + "/sparse", "wb") as stream:
    stream.truncate(8_000_000)
"""


@pytest.fixture
def small_disk(world: World) -> Iterator[None]:
    world.write_policy(sandbox=SANDBOX % "")
    yield
    world.write_policy()


@pytest.mark.parametrize("script", [MANY_FILES, ONE_FILE, ENDS_AT_ONCE])
@pytest.mark.usefixtures("small_disk")
def test_more_than_the_limit_ends_the_job(world: World, script: str) -> None:
    job = world.run(script)
    assert (job.state, job.failure, job.reason.code) == ("failed", "limits", "outputs-too-large"), world.logs()
    assert (job.reason.rule, job.reason.limit) == ("sandbox.disk", "8 MB, 200000 files")
    assert "/tmp" in job.reason.hint
    assert job.outputs == []
    world.wait_until(lambda: not list(world.site.jobs.glob(f"{job.id}-*")))


@pytest.mark.usefixtures("small_disk")
def test_a_sparse_file_takes_nothing_and_ends_no_job(world: World) -> None:
    assert world.run(SPARSE).state == "succeeded"


def test_no_job_starts_when_the_sites_disk_is_almost_full(world: World) -> None:
    world.write_policy(sandbox=SANDBOX % ", free: 900000GiB")
    job = world.run("print(1)")
    assert (job.state, job.reason.code, job.reason.rule) == ("failed", "disk-reserve", "sandbox.free")
    world.write_policy()
    assert world.run("print(1)").state == "succeeded"
