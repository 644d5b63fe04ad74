"""One world for the whole journey: its steps build on each other."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.journey.in_podman import run
from tests.rig import World, running_world
from tests.services import program


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, base_layout: Path) -> Iterator[World]:
    with running_world(tmp_path_factory.mktemp("world"), base_layout) as running:
        yield running


@pytest.fixture
def podman() -> Iterator[Callable[..., str]]:
    """Podman with storage and settings of its own; whatever it made is gone afterwards."""
    # Not below tmp_path: Podman takes at most 50 characters for its folder of run files.
    folder = Path(tempfile.mkdtemp(prefix="insitu-podman-", dir="/tmp"))
    settings = folder / "containers.conf"
    settings.write_text(
        '[network]\nnetwork_backend="netavark"\n[engine]\nruntime="runc"\n'
        '[containers]\ndefault_ulimits=["nofile=4096:4096","nproc=4096:4096"]\n'
    )
    binary = program("podman", "podman")
    base = ["env", f"CONTAINERS_CONF={settings}", binary, f"--root={folder / 'root'}", f"--runroot={folder / 'run'}"]
    yield lambda *words: run(*base, *words)
    subprocess.run([*base, "rm", "--all", "--force", "--time", "0"], capture_output=True, check=False)
    subprocess.run(["umount", folder / "root" / "overlay"], capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)
