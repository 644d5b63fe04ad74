"""`podman run` and `docker run` as a person would type them, on the same base and environment."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from benchmarks.scene import Scene

# Where Podman's own choices don't work (a kernel that withholds CAP_SYS_RESOURCE, hybrid cgroups), these do.
_CAREFUL = ("--runtime", "runc", "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096")


def bare_container(scene: Scene, tree: Path, argv: Sequence[str]) -> list[str]:
    """`podman run --rm --network none --rootfs …`.

    Raises:
        RuntimeError: Podman does not run here.
    """
    rootfs = scene.rootfs_to_spare
    return [*_podman_that_works(rootfs), "--volume", f"{tree}:/opt/env:ro", "--rootfs", str(rootfs), *argv]


@cache
def _podman_that_works(rootfs: Path) -> tuple[str, ...]:
    said = ""
    for options in ((), _CAREFUL):
        runtime, limits = options[:2], options[2:]
        command = ("podman", *runtime, "run", "--rm", "--network", "none", *limits)
        done = subprocess.run(
            [*command, "--rootfs", str(rootfs), "/bin/true"], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return command
        said = done.stderr.strip()
    raise RuntimeError(f"podman does not run here: {said[-300:]}")
