"""Sandboxes by bubblewrap: no daemon, no image, root or not, and the fastest start.

bubblewrap makes the place: new namespaces, a root of tmpfs with the base bound
into it read-only, and a small program that only waits in it (`cat`, the
*anchor*; bubblewrap's own first process stays pid 1 and reaps). Meanwhile the
keeper's fork, made ahead, waits; it enters the namespaces, gives up uid,
capabilities and all hope of new ones, loads the system call filter, and is then
`init.run` (see `joiner.py`). So no interpreter has to be started before the
job's own, which halves the start; and init is in the sandbox's namespaces but
for the pid namespace, so the job can neither see nor signal it.

The anchor lives until its stdin ends. Only the keeper holds the other end: when
the keeper dies, however, the anchor ends, pid 1 with it, and with pid 1 the
kernel ends everything in the sandbox.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from insitu.domain.errors import InsituError
from insitu.sandbox import cgroups
from insitu.sandbox.contract import (
    Capabilities,
    SandboxSettings,
    Started,
    failed_to_make,
    is_available,
    not_available,
)
from insitu.sandbox.joiner import Joiner
from insitu.sandbox.plan import RUN_TARGET, make_plan
from insitu.sandbox.processes import start_ticks
from insitu.sandbox.rootfs import plan_root
from insitu.sandbox.seccomp import bpf_program
from insitu.sandbox.spec import GATE_TARGET, SandboxSpec

_MARK = "INSITU_SANDBOX"
_DEVICES = ("null", "zero", "full", "random", "urandom")
# Of /proc: what OCI runtimes hide, beside what bubblewrap itself makes read-only.
_HIDDEN_FILES = ("kcore", "keys", "timer_list", "sched_debug", "latency_stats", "sysrq-trigger")
_HIDDEN_FOLDERS = ("acpi", "scsi", "asound")


class BubblewrapSandbox:
    """See the module. Nothing is kept between calls but what `prepare` found."""

    name = "bubblewrap"

    def __init__(self, settings: SandboxSettings) -> None:
        self._program = shutil.which(settings.bwrap)
        self._hierarchy: cgroups.Hierarchy | None = None
        self._joiner: Joiner | None = None

    def prepare(self) -> None:
        """What needs no spec: a keeper does it while it waits."""
        hierarchy = self._find_hierarchy()
        for keeper, name, group in cgroups.find_groups(hierarchy):
            if not name and not _lives(keeper):
                group.destroy()
        self._joiner = Joiner(cgroups.make_group(hierarchy, _who_i_am()), bpf_program())

    def unprepare(self) -> None:
        """Nobody will start anything here."""
        if self._joiner is not None:
            self._joiner.end()
            self._joiner.group.destroy()
            self._joiner = None

    def probe(self) -> Capabilities:
        """See the contract. Tries an empty sandbox with all namespaces."""
        install = "apt install bubblewrap"
        if self._program is None:
            return not_available(self.name, "bwrap is not installed", install)
        trial = ["--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--", "/bin/true"]
        try:
            bpf_program()
            version = self._bwrap("--version").stdout
            tried = self._bwrap(*trial)
        except (OSError, InsituError, subprocess.TimeoutExpired) as exc:
            return not_available(self.name, str(exc), install)
        if tried.returncode != 0:
            allow = "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1), or run the agent as root"
            return not_available(self.name, tried.stderr.strip(), allow)
        return is_available(self.name, version.removeprefix("bubblewrap "), self._enforced())

    def start(
        self,
        spec: SandboxSpec,
        room: Path,  # noqa: ARG002 - the contract's; nothing is kept in files here
        streams: Callable[[], tuple[int, int]],
    ) -> Started:
        """See the contract."""
        if self._program is None:
            raise failed_to_make(spec.name, "bwrap is not installed", "apt install bubblewrap")
        arguments, binds = self._arguments(spec)
        anchor = _Anchor(self._program, arguments)
        try:
            if self._joiner is None:
                self.prepare()
            assert self._joiner is not None
            self._joiner.group.assign(spec.name, spec.limits)
            self._joiner.join(make_plan(spec, binds, self._enforced()), anchor.news(), streams())
        except (OSError, InsituError) as exc:
            anchor.kill()
            self.unprepare()
            raise failed_to_make(spec.name, exc) from exc
        joiner, self._joiner = self._joiner, None
        return _BubblewrapStarted(joiner, anchor)

    def destroy(self, name: str) -> None:
        """See the contract."""
        deadline = time.monotonic() + 5
        while True:
            pids = _pids_of(name)
            groups = [group for _, labelled, group in cgroups.find_groups(self._find_hierarchy()) if labelled == name]
            if not pids and not groups:
                return
            for pid in pids:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            left = [group for group in groups if not group.destroy()]
            if left or time.monotonic() > deadline:
                raise failed_to_make(name, "the kernel has not let it go", "try again; a process hangs in the kernel")
            time.sleep(0.005 if pids else 0)  # not our children: nobody tells us when they are gone

    def running(self) -> frozenset[str]:
        """See the contract."""
        names = {name for name, _ in _marked_processes()}
        return frozenset(names | {name for _, name, _ in cgroups.find_groups(self._find_hierarchy()) if name})

    def _bwrap(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        assert self._program is not None
        return subprocess.run([self._program, *arguments], check=False, capture_output=True, text=True, timeout=10)

    def _find_hierarchy(self) -> cgroups.Hierarchy:
        if self._hierarchy is None:
            self._hierarchy = cgroups.find_hierarchy()
        return self._hierarchy

    def _enforced(self) -> Mapping[str, str]:
        hierarchy = self._find_hierarchy()
        return {
            "memory": hierarchy.mechanism("memory") or "rlimit",
            "cpus": hierarchy.mechanism("cpu") or "affinity",
            "processes": hierarchy.mechanism("pids") or "rlimit",
            "open_files": "rlimit",
            "file_bytes": "rlimit",
            "scratch_bytes": "tmpfs",
            "wall_s": "keeper",
        }

    def _arguments(self, spec: SandboxSpec) -> tuple[list[str], list[str]]:
        """bubblewrap's arguments, and where it binds entries of the base."""
        targets = [mount.target for mount in spec.mounts] + ([GATE_TARGET] if spec.gate_socket else [])
        root = plan_root(spec.rootfs, targets)
        made = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net", "--unshare-cgroup-try"]
        if os.getuid() != 0:
            made += ["--unshare-user", "--uid", str(spec.uid), "--gid", str(spec.gid)]
        made += ["--hostname", "sandbox", "--new-session", "--die-with-parent", "--cap-drop", "ALL"]
        made += ["--clearenv", "--setenv", _MARK, spec.name]
        for target in (*root.folders, "/run", "/dev"):  # first: what a bind makes on its way is closed to others
            made += ["--dir", target]
        for source, target in root.binds:
            made += ["--ro-bind", str(source), target]
        for target, says in root.links:
            made += ["--symlink", says, target]
        scratch = str(spec.limits.scratch_bytes)
        made += ["--proc", "/proc", "--perms", "1777", "--size", scratch, "--tmpfs", "/tmp"]  # noqa: S108
        made += ["--perms", "1777", "--size", scratch, "--tmpfs", "/dev/shm"]  # noqa: S108
        for device in _DEVICES:
            made += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
        for target, says in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
            made += ["--symlink", says, f"/dev/{target}"]
        for name in _HIDDEN_FILES:
            if Path("/proc", name).exists():
                made += ["--ro-bind", "/dev/null", f"/proc/{name}"]
        for name in _HIDDEN_FOLDERS:
            if Path("/proc", name).exists():
                made += ["--tmpfs", f"/proc/{name}", "--remount-ro", f"/proc/{name}"]
        made += ["--dir", RUN_TARGET]
        if spec.gate_socket is not None:
            made += ["--ro-bind", str(spec.gate_socket), GATE_TARGET]
        for mount in spec.mounts:
            made += ["--bind" if mount.writable else "--ro-bind", str(mount.source), mount.target]
        made += ["--chdir", "/", "--remount-ro", "/", "--", "/bin/cat"]
        return made, [target for _, target in root.binds]


class _Anchor:
    """The bubblewrap process and what waits inside: holds the namespaces open."""

    def __init__(self, program: str, arguments: list[str]) -> None:
        self._info, info_end = socket.socketpair()  # so that two can read the same: by peeking
        stdin, self._lifeline = os.pipe()
        self._ready, ready_end = os.pipe()
        self._errors, errors_end = os.pipe()
        os.write(self._lifeline, b"\n")  # cat says it back as soon as it runs, so when all mounts are made
        actions = [
            (os.POSIX_SPAWN_DUP2, stdin, 0),
            (os.POSIX_SPAWN_DUP2, ready_end, 1),
            (os.POSIX_SPAWN_DUP2, errors_end, 2),
            (os.POSIX_SPAWN_DUP2, info_end.fileno(), 3),
        ]
        argv = [program, "--info-fd", "3", *arguments]
        try:
            self.pid = os.posix_spawn(program, argv, {}, file_actions=actions)
        finally:
            info_end.close()
            for end in (stdin, ready_end, errors_end):
                os.close(end)

    def news(self) -> tuple[int, int, int]:
        """Descriptors that tell the pid inside, that all is made, and what went wrong."""
        return self._info.fileno(), self._ready, self._errors

    def kill(self) -> None:
        """End everything inside, and bubblewrap. Returns when they are gone. Idempotent."""
        if self.pid == 0:
            return
        self._info.setblocking(False)  # noqa: FBT003 - the library's
        try:
            # With pid 1 all inside end, and bubblewrap after them: it waits for pid 1.
            first = int(json.loads(self._info.recv(4096, socket.MSG_PEEK))["child-pid"])
        except (BlockingIOError, ValueError, KeyError):
            first = self.pid  # nothing was made yet
        with contextlib.suppress(ProcessLookupError):
            os.kill(first, signal.SIGKILL)
        os.close(self._lifeline)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        self.pid = 0
        self._info.close()
        os.close(self._ready)
        os.close(self._errors)


class _BubblewrapStarted:
    def __init__(self, joiner: Joiner, anchor: _Anchor) -> None:
        self.channel = joiner.channel
        self._joiner = joiner
        self._anchor = anchor

    def memory_kills(self) -> int:
        return self._joiner.group.memory_kills()

    def kill(self) -> None:
        self._anchor.kill()
        self._joiner.end()
        self._joiner.group.destroy()


def _marked_processes() -> Iterator[tuple[str, int]]:
    """(sandbox, pid) of every bubblewrap that we started: by its arguments, which only its owner can have set."""
    mark = f"--setenv\0{_MARK}\0".encode()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError):
            if entry.stat().st_uid != os.getuid():
                continue
            arguments = Path(entry.path, "cmdline").read_bytes()
            if mark in arguments:
                yield arguments.partition(mark)[2].partition(b"\0")[0].decode(), int(entry.name)


def _who_i_am() -> str:
    """A name for this process that no later one has: as the id of its group."""
    return f"k{os.getpid()}-{start_ticks(os.getpid())}"


def _lives(keeper: str) -> bool:
    pid, _, ticks = keeper.removeprefix("k").partition("-")
    return pid.isdigit() and str(start_ticks(int(pid))) == ticks


def _pids_of(name: str) -> list[int]:
    return [pid for marked, pid in _marked_processes() if marked == name]
