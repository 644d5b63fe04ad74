"""A site without internet: nothing but its hub can be reached from it, and it trains with packages it has never seen."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from insitu.agent.environments import wheels_in
from insitu.images.bundles import BundledLock, write_bundle
from insitu.images.wheel_store import WheelStore
from tests.package_index import a_lock, locked, make_wheel
from tests.rig import World, running_world
from tests.services import program

SCRIPT = """
import iniconfig, mlflow, six
mlflow.log_metric("auc", 0.75)
print("trained with six", six.__version__)
"""


@dataclass(frozen=True)
class LonelyNetwork:
    """A network of one cable: this machine at one end, a namespace at the other."""

    namespace: str
    here: str  # this machine's address on it

    @property
    def enter(self) -> tuple[str, ...]:
        """What a command is started by to be at the other end; the same process goes on as the command."""
        return (program("nsenter", "util-linux"), f"--net=/run/netns/{self.namespace}", "--")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self.enter, *command], capture_output=True, text=True, check=False, timeout=30)


@pytest.fixture(scope="module")
def network() -> Iterator[LonelyNetwork]:
    ip, number = program("ip", "iproute2"), os.getpid()
    namespace, near, far = f"insitu-{number}", f"in{number}h", f"in{number}s"
    subnet = f"10.231.{number % 250}"

    def do(*words: str) -> None:
        done = subprocess.run([ip, *words], capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"

    with contextlib.ExitStack() as ends:
        do("netns", "add", namespace)
        ends.callback(do, "netns", "delete", namespace)  # and with it both ends of the cable
        do("link", "add", near, "type", "veth", "peer", "name", far, "netns", namespace)
        do("address", "add", f"{subnet}.1/30", "dev", near)
        do("link", "set", near, "up")
        for words in (
            ("link", "set", "lo", "up"),
            ("address", "add", f"{subnet}.2/30", "dev", far),
            ("link", "set", far, "up"),
        ):
            do("-netns", namespace, *words)
        yield LonelyNetwork(namespace, f"{subnet}.1")


@pytest.fixture(scope="module")
def world(network: LonelyNetwork, tmp_path_factory: pytest.TempPathFactory, base_layout: Path) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("lonely")
    with running_world(
        folder, base_layout, hub=("--host", network.here), within=network.enter, site_cache=folder / "site-cache"
    ) as running:
        yield running


def test_it_trains_with_a_lock_that_it_has_never_seen(world: World, network: LonelyNetwork) -> None:
    routes = json.loads(network.run("ip", "-json", "route").stdout)
    assert [route["dst"] for route in routes] == [f"{network.here.rpartition('.')[0]}.0/30"]
    assert "unreachable" in network.run("ip", "route", "get", "1.1.1.1").stderr

    requirements = "mlflow-skinny==3.17.2\nsix==1.17.0\niniconfig==2.1.0\n"
    job = world.run(SCRIPT, requirements=requirements, timeout_s=240)
    assert job.state == "succeeded", (job.reason, world.logs())
    assert "trained with six 1.17.0" in world.log_text(job.id)

    at_site, at_hub = (
        _hashes(wheels_in(world.folder / "site-cache")),
        _hashes(WheelStore(world.folder / "hub" / "wheels")),
    )
    assert at_site
    assert at_site == at_hub


def test_what_the_hub_cannot_fetch_is_brought_to_it_in_a_bundle_and_the_job_runs(world: World, tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "tiny")
    lock = a_lock(path)  # at an address that nobody answers, of a host that the hub was not told of
    folder = world.job_folder("import tiny\nprint('trained with tiny', tiny.main())\n")
    (folder / "pylock.toml").write_bytes(lock)
    text = (folder / "job.yaml").read_text()
    (folder / "job.yaml").write_text(text.replace("{requirements: requirements.txt}", "{pylock: pylock.toml}"))

    failed = world.alice.wait(world.alice.submit(folder / "job.yaml").id, timeout_s=120)
    assert (failed.state, failed.reason.code) == ("failed", "wheel-not-at-hub"), (failed.reason, world.logs())
    assert "insitu env import" in failed.reason.hint

    store, wheel = WheelStore(tmp_path / "desk"), locked(path)
    with path.open("rb") as stream:
        store.put(wheel, stream)
    write_bundle(tmp_path / "bundle.tar", [BundledLock(lock)], [wheel], store)
    assert world.clients["admin"].bring_wheels(tmp_path / "bundle.tar").new == (path.name,)

    job = world.alice.wait(world.alice.submit(folder / "job.yaml").id, timeout_s=120)
    assert job.state == "succeeded", (job.reason, world.logs())
    assert "trained with tiny 7" in world.log_text(job.id)


def _hashes(store: WheelStore) -> set[str]:
    return {path.parent.name for path in store.root.glob("??/*/*.whl")}
