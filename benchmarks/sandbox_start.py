"""A sandbox alone: from handing its spec to a waiting keeper until the code's first byte.

No hub, agent or gate: what is left is the price of the guards (namespaces,
limits, system call filter, self-test from inside) against the same interpreter
sealed off bare. Every implementation that works on this machine is measured.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.containers import bare_container
from benchmarks.figures import Row, in_turns, milliseconds
from benchmarks.programs import run_timed
from benchmarks.scene import SMALL, Scene, bare_bwrap
from insitu.domain.errors import UnavailableError
from insitu.sandbox.contract import SANDBOXES, Likely, SandboxSettings, choose
from insitu.sandbox.keeper import KeeperRequest
from insitu.sandbox.keeper_pool import KeeperPool
from insitu.sandbox.spec import Limits, Mount, Reason, SandboxSpec

_ROUNDS = 7
_UNTIL_READY_AGAIN_S = 1.2
_PRINT = ("/opt/env/bin/python", "-c", "print(1)")
_UID = 210_900  # of nobody else here
_LIMITS = Limits(memory_bytes=1 << 30, cpus=1.0, processes=64, wall_s=60, scratch_bytes=1 << 28)


def measure(scene: Scene) -> Iterator[Row]:
    tree = scene.environment(SMALL).tree
    for name in SANDBOXES:
        settings = SandboxSettings(state_dir=scene.fresh_folder(f"sandbox-{name}"))
        try:
            choose(name, settings)
        except UnavailableError:
            continue  # not on this machine; `insitu doctor` says why
        if name == "bubblewrap":
            against, bare = "bare bwrap, to its first byte", bare_bwrap(scene.base, tree, _PRINT)
        else:
            against, bare = "bare podman run, to its first byte", bare_container(scene, tree, _PRINT)
        starts = _Starts(scene, tree, name, settings)
        try:
            ours, theirs = in_turns(scene.rounds(_ROUNDS), starts.one, lambda bare=bare: run_timed(bare).first_byte_s)
        finally:
            starts.pool.close()
        yield Row(f"start of a sandbox, {name}", "ms", milliseconds(ours), against, milliseconds(theirs))


class _Starts:
    """Starts sandboxes of one kind, one after the other."""

    def __init__(self, scene: Scene, tree: Path, name: str, settings: SandboxSettings) -> None:
        self._scene, self._tree, self._name, self._settings = scene, tree, name, settings
        self._number = 0
        likely = Likely(scene.base.rootfs, _LIMITS.scratch_bytes)
        self.pool = KeeperPool(1, [sys.executable], settings, name, likely)
        time.sleep(_UNTIL_READY_AGAIN_S)

    def one(self) -> float:
        """Seconds until the code's first byte is here."""
        folder = self._scene.fresh_folder("start")
        request = KeeperRequest(
            spec=self._spec(),
            sandbox=self._name,
            state_dir=folder / "keeper",
            settings=self._settings,
            streams_socket=folder / "streams.sock",
        )
        with socket.socket(socket.AF_UNIX) as intake:
            intake.bind(str(request.streams_socket))
            intake.listen(1)
            intake.settimeout(30)
            begun = time.perf_counter()
            handle = self.pool.start(request)
            keeper, _ = intake.accept()
            with keeper:
                _, (stdout, stderr), _, _ = socket.recv_fds(keeper, 16, 2)
        first = os.read(stdout, 1)
        took = time.perf_counter() - begun
        result = handle.wait(30)
        os.close(stdout)
        os.close(stderr)
        if not first or result is None or result.reason is not Reason.EXITED or result.exit_code != 0:
            raise RuntimeError(f"the sandbox did not do as told: {result}")
        time.sleep(_UNTIL_READY_AGAIN_S)
        return took

    def _spec(self) -> SandboxSpec:
        self._number += 1
        return SandboxSpec(
            name=f"bench-{os.getpid()}-{self._number}",
            rootfs=self._scene.base.rootfs,
            argv=_PRINT,
            env={"PATH": "/opt/env/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},
            workdir="/",
            mounts=(Mount(self._tree, "/opt/env"),),
            limits=_LIMITS,
            uid=_UID,
            gid=_UID,
        )
