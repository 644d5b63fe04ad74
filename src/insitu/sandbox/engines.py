"""What Podman and Docker have in common: a container whose first program is `init.py`.

An engine is only asked to make a container. What runs in it, with which
environment and where its output goes, it never hears: init fetches that from
the keeper through a unix socket in the one folder that is mounted for it. The
kernel says who is at the other end (SO_PEERCRED), so the keeper knows init's
pid on this machine, and needs no engine to stop it, to kill it, or to read how
often the kernel killed for memory.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from insitu.sandbox import init
from insitu.sandbox.addresses import bind_to
from insitu.sandbox.beside import TOOLS_TARGET, command_beside
from insitu.sandbox.cgroups import memory_counter_of
from insitu.sandbox.plan import RUN_TARGET, make_plan, send_plan
from insitu.sandbox.rootfs import RootPlan, find_python, plan_root
from insitu.sandbox.spec import SandboxSpec

_START_WAIT_S = 60
_ENFORCED = {
    "memory": "engine",
    "cpus": "engine",
    "processes": "engine",
    "open_files": "rlimit",
    "file_bytes": "rlimit",
    "scratch_bytes": "tmpfs",
    "wall_s": "keeper",
}

HIDDEN = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys",
)
"""Shown empty: they tell of the machine."""


@dataclass(frozen=True, slots=True)
class Bind:
    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Container:
    """What to ask an engine for, whichever it is."""

    command: tuple[str, ...]
    binds: tuple[Bind, ...]
    root: RootPlan


class Room:
    """The folder that init sees at /run/insitu, and the socket in it through which it asks."""

    def __init__(self, folder: Path, spec: SandboxSpec) -> None:
        self._spec = spec
        self._folder = folder / "run"
        folder.mkdir(mode=0o755, exist_ok=True)
        self._folder.mkdir(mode=0o755)
        self._folder.chmod(0o755)  # whatever the umask is: the code's uid has to pass
        shutil.copyfile(init.__file__, self._folder / "init.py")
        (self._folder / "init.py").chmod(0o444)
        if spec.tools:
            (self._folder / PurePosixPath(TOOLS_TARGET).name).mkdir(mode=0o755)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        bind_to(self._listener, self._folder / "keeper.sock")
        (self._folder / "keeper.sock").chmod(0o666)
        self._listener.listen(1)

    def container(self) -> Container:
        spec = self._spec
        root = plan_root(spec.rootfs, [*(mount.target for mount in spec.mounts), RUN_TARGET])
        binds = [Bind(source, target) for source, target in root.binds]
        binds.append(Bind(self._folder, RUN_TARGET))
        binds += [Bind(mount.source, mount.target, mount.writable) for mount in spec.mounts]
        command = (find_python(spec.tools or spec.rootfs), "-I", "-S", f"{RUN_TARGET}/init.py")
        if spec.tools:
            binds.append(Bind(spec.tools, TOOLS_TARGET))
            command = command_beside(spec.tools, *command)
        return Container(command, tuple(binds), root)

    def receive_init(self, root: RootPlan, streams: tuple[int, int], failed: Callable[[], str | None]) -> EngineStarted:
        """Wait for init, and tell it what to run.

        Raises:
            OSError: the engine failed, as `failed` says, or nobody came.
        """
        waiting = select.poll()
        waiting.register(self._listener, select.POLLIN)
        deadline = time.monotonic() + _START_WAIT_S
        while not waiting.poll(100):
            why = failed()
            if why is not None:
                raise OSError(0, why)
            if time.monotonic() > deadline:
                raise OSError(0, f"the container did not start in {_START_WAIT_S} s")
        channel, _ = self._listener.accept()
        self.close()  # nobody else is let in, and nobody else finds the door
        plan = make_plan(self._spec, [target for _, target in root.binds], _ENFORCED)
        send_plan(channel, plan, streams)
        return EngineStarted(channel)

    def close(self) -> None:
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            (self._folder / "keeper.sock").unlink()


class EngineStarted:
    """A container whose init has called. See `contract.Started`."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        credentials = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid = struct.unpack("3i", credentials)[0]
        self._pidfd = os.pidfd_open(pid)
        self._memory_kills = memory_counter_of(pid)

    def memory_kills(self) -> int:
        return self._memory_kills()

    def kill(self) -> None:
        if self._pidfd < 0:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        gone = select.poll()
        gone.register(self._pidfd, select.POLLIN)
        gone.poll()  # pid 1 ends only after all others in its namespace
        os.close(self._pidfd)
        self._pidfd = -1
        self.channel.close()


def enforced() -> dict[str, str]:
    return dict(_ENFORCED)


def make_skeleton(folder: Path, root: RootPlan) -> Path:
    """The bare root as a folder: what an engine mounts everything else into."""
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    for path in root.folders:
        place = folder / path.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        place.chmod(0o755)
    for path, says in root.links:
        (folder / path.lstrip("/")).symlink_to(says)
    return folder


def short(text: str, lines: Sequence[str] = ()) -> str:
    """The end of what a program complained, for people at the site."""
    return (text.strip() or " ".join(lines))[-400:]
