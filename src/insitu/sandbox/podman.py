"""Sandboxes by Podman, through its command line: no service has to run.

`podman run --detach --rootfs` on a skeleton folder with the base bound into it:
no image is stored, copied or pulled. What distributions' defaults get wrong
(a runtime that refuses the machine's cgroups, limits above the hard ones) is
found by trying, once for each machine and version, and written down in our
state folder; a file in /etc is neither needed nor touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from insitu.domain.errors import InsituError
from insitu.sandbox.contract import (
    LABEL,
    Capabilities,
    Likely,
    SandboxSettings,
    Started,
    failed_to_make,
    is_available,
    not_available,
)
from insitu.sandbox.engines import HIDDEN, Container, Room, enforced, make_skeleton, short
from insitu.sandbox.rootfs import plan_root
from insitu.sandbox.seccomp import oci_profile_path
from insitu.sandbox.spec import SandboxSpec

_ULIMITS = ("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096")
_CGROUPFS = ("--cgroup-manager", "cgroupfs")
# (options of podman, options of run): as installed first, then what is known to help.
_WAYS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    ((), ()),
    (("--runtime", "runc"), ()),
    (("--runtime", "runc"), _ULIMITS),
    (("--runtime", "runc", *_CGROUPFS), _ULIMITS),
    (("--runtime", "crun", *_CGROUPFS), _ULIMITS),
    (_CGROUPFS, _ULIMITS),
)
# What Podman adds to any container, and nobody here needs: each costs time or shows something.
_WITHOUT = (
    "--network=none --no-hosts --passwd=false --http-proxy=false --log-driver=none --sdnotify=ignore --no-healthcheck"
    " --read-only --read-only-tmpfs=false --cap-drop=all --security-opt=no-new-privileges --ipc=private --pid=private"
    " --uts=private --cgroupns=private --hostname=sandbox --workdir=/ --pull=never"
).split()
_TRIAL_S = 60
_QUICK_S = 30


class PodmanSandbox:
    """See the module."""

    name = "podman"

    def __init__(self, settings: SandboxSettings) -> None:
        self._settings = settings
        self._program = shutil.which(settings.podman)

    def prepare(self, likely: Likely | None = None) -> None:
        """Nothing can be done ahead."""

    def unprepare(self) -> None:
        """See `prepare`."""

    def probe(self) -> Capabilities:
        """See the contract. Runs a container on this machine's own root, read-only, in each way until one works."""
        if self._program is None:
            return not_available(self.name, "podman is not installed", "apt install podman")
        try:
            version = self._version()
            self._way(version)
        except (OSError, subprocess.SubprocessError, InsituError) as exc:
            why = exc.why if isinstance(exc, InsituError) else str(exc)
            return not_available(self.name, why, "try `podman run` by hand")
        return is_available(self.name, version, enforced())

    def start(self, spec: SandboxSpec, room: Path, streams: Callable[[], tuple[int, int]]) -> Started:
        """See the contract."""
        if self._program is None:
            raise failed_to_make(spec.name, "podman is not installed", "apt install podman")
        try:
            ends = streams()
            before, after = self._known_way() or self._way(self._version())
            door = Room(room, spec)
            container = door.container()
            skeleton = make_skeleton(room / "root", container.root)
            arguments = self._arguments(spec, container, skeleton)
            with tempfile.TemporaryFile() as complaints:
                running = subprocess.Popen(
                    [self._program, *before, "run", *after, *arguments],
                    cwd=room,  # conmon writes a file `oom` to where it was started, when memory ran out
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=complaints,
                )

                def failed() -> str | None:
                    if not running.poll():
                        return None
                    complaints.seek(0)
                    return short(complaints.read().decode(errors="replace"))

                try:
                    return door.receive_init(container.root, ends, failed)
                except OSError:
                    running.kill()
                    raise
                finally:
                    door.close()
        except (OSError, subprocess.SubprocessError, InsituError) as exc:
            with contextlib.suppress(InsituError):
                self.destroy(spec.name)
            raise failed_to_make(spec.name, exc) from exc

    def destroy(self, name: str) -> None:
        """See the contract."""
        if self._program is None:
            return
        try:
            done = self._podman("rm", "--force", "--ignore", "--time", "0", name, timeout_s=_TRIAL_S)
        except subprocess.SubprocessError as exc:
            raise failed_to_make(name, exc) from exc
        if done.returncode != 0:
            raise failed_to_make(name, f"podman could not remove it: {short(done.stderr)}", "podman rm --force")

    def running(self) -> frozenset[str]:
        """See the contract."""
        if self._program is None:
            return frozenset()
        listed = self._podman("ps", "--all", "--filter", f"label={LABEL}", "--format", "{{.Names}}")
        return frozenset(listed.stdout.split())

    def _version(self) -> str:
        return self._podman("--version").stdout.strip().removeprefix("podman version ")

    def _arguments(self, spec: SandboxSpec, container: Container, skeleton: Path) -> list[str]:
        limits = spec.limits
        made = ["--detach", "--rm", "--name", spec.name, "--label", f"{LABEL}={spec.name}", *_WITHOUT]
        made += ["--security-opt", f"seccomp={oci_profile_path()}", "--security-opt", f"mask={':'.join(HIDDEN)}"]
        made += ["--memory", str(limits.memory_bytes), "--memory-swap", str(limits.memory_bytes)]
        made += ["--cpus", f"{limits.cpus:g}", "--pids-limit", str(limits.processes + 1)]  # init is one
        made += ["--shm-size", str(limits.scratch_bytes)]
        made += ["--tmpfs", f"/tmp:rw,nosuid,nodev,mode=1777,size={limits.scratch_bytes}"]  # noqa: S108 - inside
        made += self._identity(spec)
        for bind in container.binds:
            mode = "false" if bind.writable else "true"
            made += ["--mount", f"type=bind,src={bind.source},dst={bind.target},ro={mode},bind-propagation=rprivate"]
        return [*made, "--rootfs", str(skeleton), *container.command]

    @staticmethod
    def _identity(spec: SandboxSpec) -> list[str]:
        if os.getuid() == 0:
            return ["--user", f"{spec.uid}:{spec.gid}"]
        # An ordinary user's containers: its own uid is seen as the job's, so folders stay its own.
        return ["--user", f"{spec.uid}:{spec.gid}", "--userns", f"keep-id:uid={spec.uid},gid={spec.gid}"]

    def _way(self, version: str) -> tuple[list[str], list[str]]:
        """The options that make Podman work here, found by trying and remembered.

        Raises:
            UnavailableError: none does.
        """
        known = self._known_way(version)
        if known is not None:
            return known
        complaints = ""
        with tempfile.TemporaryDirectory(prefix="insitu-podman-") as scratch:
            root = plan_root(Path("/"), ["/run/insitu"])
            skeleton = make_skeleton(Path(scratch) / "root", root)
            binds = [
                word
                for source, target in root.binds
                if target in ("/usr", "/bin", "/lib", "/lib64", "/sbin")
                for word in ("--mount", f"type=bind,src={source},dst={target},ro=true")
            ]
            for before, after in _WAYS:
                trial = [*before, "run", *after, "--rm", *_WITHOUT, *binds, "--rootfs", str(skeleton), "/bin/true"]
                done = self._podman(*trial, timeout_s=_TRIAL_S)
                if done.returncode == 0:
                    self._remember(version, before, after)
                    return list(before), list(after)
                complaints = complaints or short(done.stderr)
        raise failed_to_make("podman", complaints, "try `podman run` by hand")

    def _known_way(self, version: str | None = None) -> tuple[list[str], list[str]] | None:
        with contextlib.suppress(OSError, ValueError, KeyError):
            known: Mapping[str, Any] = json.loads(self._memory().read_text())
            if known["boot"] == _boot_id() and version in (None, known["version"]):
                return known["podman"], known["run"]
        return None

    def _remember(self, version: str, before: tuple[str, ...], after: tuple[str, ...]) -> None:
        self._settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        fields = {"boot": _boot_id(), "version": version, "podman": list(before), "run": list(after)}
        partial = self._memory().with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(fields))
        partial.rename(self._memory())

    def _memory(self) -> Path:
        return self._settings.state_dir / "podman.json"

    def _podman(self, *arguments: str, timeout_s: float = _QUICK_S) -> subprocess.CompletedProcess[str]:
        assert self._program is not None
        return subprocess.run(
            [self._program, *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
