"""What benches share: the base, environments, a hub with a site, an MLflow server. Each is made when first asked for.

Hub, site and base are those that the tests of the journey use. Everything that was
started is ended by its process id, in reverse order, also when a bench fails.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from benchmarks.disk import spread
from benchmarks.programs import ended_by_pid, free_port, wait_until_quiet
from insitu.images.base import UnpackedBase, build_base, unpack_base
from insitu.images.environment import Environment, materialise
from insitu.images.layout import OciLayout
from insitu.images.locks import lock_requirements
from tests.rig import World, running_world
from tests.services import cache_folder, one_at_a_time

# One pure package: what is measured is our way there, not what is imported.
SMALL = "six==1.17.0\n"
WITH_MLFLOW = "mlflow-skinny==3.17.2\n"
MIDDLE = "mlflow-skinny==3.17.2\nnumpy==2.4.6\n"
LARGE = "mlflow-skinny==3.17.2\nnumpy==2.4.6\nscikit-learn==1.9.1\nskops==0.16.0\n"

Part = TypeVar("Part")

_MLFLOW_READY_S = 120.0


@dataclass
class Scene:
    """Real parts on loopback, in one temporary folder."""

    folder: Path
    quick: bool
    _ends: contextlib.ExitStack
    _worlds: dict[str, World] = field(default_factory=dict)

    def rounds(self, wanted: int) -> int:
        """How often to measure. Never fewer than five but to try something out."""
        return 2 if self.quick else wanted

    def fresh_folder(self, name: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))

    def on_end(self, end: Callable[[], object]) -> None:
        self._ends.callback(end)

    def enter(self, part: contextlib.AbstractContextManager[Part]) -> Part:
        """Keep a part until the end of this run."""
        return self._ends.enter_context(part)

    # -- what jobs run on ----------------------------------------------------------------------------------------------

    @cached_property
    def base_layout(self) -> Path:
        layout = cache_folder() / "base"
        with one_at_a_time("base"):
            build_base(OciLayout(layout), work_dir=cache_folder())
        return layout

    @cached_property
    def base(self) -> UnpackedBase:
        layout = OciLayout(self.base_layout)
        with one_at_a_time("base"):
            found = build_base(layout, work_dir=cache_folder())
            return unpack_base(layout, found.digest, cache_folder() / "bases")

    def lock(self, requirements: str) -> bytes:
        """Resolved once for each machine: resolving is not what is measured, and asks an index."""
        name = hashlib.sha256(f"{requirements}\n{self.base.digest}".encode()).hexdigest()[:16]
        kept = cache_folder() / "bench" / f"{name}.pylock.toml"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(
                lock_requirements(
                    requirements, python=self.base.python, platform=self.base.platform, folder=self.folder
                )
            )
        return kept.read_bytes()

    @property
    def packages(self) -> Path:
        """uv's cache and the bytecode store, warm across runs."""
        return cache_folder() / "bench" / "packages"

    def environment(self, requirements: str, target: Path | None = None) -> Environment:
        return materialise(
            self.lock(requirements),
            target or cache_folder() / "bench" / "environments",
            python_version=self.base.python,
            platform=self.base.platform,
            cache_dir=self.packages,
            base_rootfs=self.base.rootfs,
            base_digest=self.base.digest,
        )

    @cached_property
    def rootfs_to_spare(self) -> Path:
        """A copy of the base for those who write into it, as `podman run --rootfs` does."""
        copy = self.folder / "rootfs"
        subprocess.run(["cp", "--archive", str(self.base.rootfs), str(copy)], check=True)
        return copy

    # -- hub and site --------------------------------------------------------------------------------------------------

    def world(self, sandbox: str = "bubblewrap") -> World:
        """A hub and a site whose jobs run in that sandbox, until the end of this run."""
        if sandbox not in self._worlds:
            folder = self.folder / f"world-{sandbox}"
            folder.mkdir()
            world = self.enter(running_world(folder, self.base_layout, sandbox=sandbox))
            grant = "{wdbc: {who: [alice], purpose: screening, until: 2099-12-31, runs: 100000}}"
            budget = "{per_job: 50MB, per_dataset_per_month: 10GB, per_submitter_per_month: 10GB}"
            world.write_policy(datasets=grant, budget=budget)
            # Started anew, so that the waiting gate has read this policy, as it has at a site where nobody edits it.
            world.stop_agent()
            world.start_agent()
            wait_until_quiet(world.hub.pid)
            self._worlds[sandbox] = world
        return self._worlds[sandbox]

    # -- what people use today -----------------------------------------------------------------------------------------

    @cached_property
    def mlflow_server(self) -> str:
        """The URL of an `mlflow server` over SQLite: one worker, nothing beside the tracking API."""
        folder, port = self.fresh_folder("mlflow"), free_port()
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--workers", "1"]
        command += ["--artifacts-destination", str(folder / "artifacts")]
        quiet = {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_JOB_ENABLE_PERIODIC_TASKS": "false",
        }
        url = f"http://127.0.0.1:{port}"
        log = folder / "log.txt"
        process = self.enter(ended_by_pid(command, log=log, environment={**os.environ, **quiet}))
        wait_until_it_answers(f"{url}/health", process, log, timeout_s=_MLFLOW_READY_S)
        return url


@contextlib.contextmanager
def open_scene(*, quick: bool) -> Iterator[Scene]:
    folder = spread(Path(tempfile.mkdtemp(prefix="insitu-bench-")))
    ends = contextlib.ExitStack()
    try:
        yield Scene(folder, quick, ends)
    finally:
        # Whoever is impatient now would leave behind what has not been ended yet.
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            ends.close()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            for number, handler in before.items():
                signal.signal(number, handler)


def wait_until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path, *, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(url, timeout=5):
                return
        time.sleep(0.1)
    raise RuntimeError(f"{url} did not answer:\n{log.read_text()[-2000:]}")


def bare_bwrap(base: UnpackedBase, tree: Path, argv: Sequence[str], *more: str) -> list[str]:
    """The least that seals code off on the same base and environment: no guard of ours, no limit, nobody asked."""
    command = ["bwrap", "--unshare-all", "--ro-bind", str(base.rootfs), "/", "--ro-bind", str(tree), "/opt/env"]
    return [*command, "--proc", "/proc", "--dev", "/dev", *more, *argv]
