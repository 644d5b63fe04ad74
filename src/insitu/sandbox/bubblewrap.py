"""Sandboxes by bubblewrap: no daemon, no image, root or not, and the fastest start.

bubblewrap makes the place: new namespaces, a root of tmpfs with the base bound
into it read-only, and a small program that only waits in it (`cat`, the
*anchor*; bubblewrap's own first process stays pid 1 and reaps). Meanwhile the
keeper's fork, made ahead, waits; it enters the namespaces, gives up uid,
capabilities and all hope of new ones, loads the system call filter, and is then
`init.run` (see `joiner.py`). So no interpreter has to be started before the
job's own, which halves the start; and init is in the sandbox's namespaces but
for the pid namespace, so the job can neither see nor signal it.

Making the place takes longer than all the rest. As root, on Linux 5.12 and with
control groups, a waiting keeper makes it ahead for the spec that is likely: all of
it but the job's own mounts, which the fork attaches on its way in, before it gives
up the means. What is then tested from inside is the same, and so is what is there.

The anchor lives until its stdin ends. Only the keeper holds the other end: when
the keeper dies, however, the anchor ends, pid 1 with it, and with pid 1 the
kernel ends everything in the sandbox.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from insitu.domain.errors import InsituError
from insitu.sandbox import cgroups, kernel
from insitu.sandbox.beside import TOOLS_TARGET, command_beside
from insitu.sandbox.contract import (
    Capabilities,
    Likely,
    SandboxSettings,
    Started,
    failed_to_make,
    is_available,
    not_available,
)
from insitu.sandbox.joiner import Joiner
from insitu.sandbox.plan import RUN_TARGET, make_plan
from insitu.sandbox.processes import start_ticks
from insitu.sandbox.rootfs import RootPlan, plan_root
from insitu.sandbox.seccomp import bpf_program
from insitu.sandbox.spec import Mount, SandboxSpec

_MARK = "INSITU_SANDBOX"
_AHEAD = "ahead:"
_CHILD = re.compile(rb'"child-pid": ([0-9]+)')
_TELLS_S = 10  # by then bubblewrap has told the pid of the first process inside, or failed
_LIKELY_TARGETS = ("/job/code", "/job/inputs/name", "/opt/env")
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
        self._ahead: _Ahead | None = None

    def prepare(self, likely: Likely | None = None) -> None:
        """What needs no spec, or only what most say: a keeper does it while it waits."""
        hierarchy = self._find_hierarchy()
        for keeper, name, group in cgroups.find_groups(hierarchy):
            if not name and not _lives(keeper):
                group.destroy()
        _end_what_dead_keepers_made()
        self._joiner = Joiner(cgroups.make_group(hierarchy, _who_i_am()), bpf_program())
        # Without groups it is found by its name, which is in the arguments of a place that was made for it.
        if likely is not None and self._program and hierarchy.parents and kernel.can_attach_trees():
            root = plan_root(likely.rootfs, _LIKELY_TARGETS)
            arguments = [*self._arguments(root, likely.scratch_bytes, _mark_of(_who_i_am())), "--", "/bin/cat"]
            self._ahead = _Ahead(likely, root, _Anchor(self._program, arguments))
            self._joiner.enter(self._ahead.anchor.news())

    def unprepare(self) -> None:
        """Nobody will start anything here."""
        self._forget_ahead()
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
        if self._joiner is None:
            self.prepare()
        assert self._joiner is not None
        root, anchor, to_attach = self._place(spec)
        plan = make_plan(spec, [target for _, target in root.binds], self._enforced())
        try:
            self._joiner.join(plan, to_attach)
            self._joiner.group.assign(spec.name, spec.limits)
            self._joiner.start(streams())
        except (OSError, InsituError) as exc:
            anchor.kill()
            self.unprepare()
            raise failed_to_make(spec.name, exc) from exc
        joiner, self._joiner = self._joiner, None
        return _BubblewrapStarted(joiner, anchor)

    def _place(self, spec: SandboxSpec) -> tuple[RootPlan, _Anchor, tuple[Mount, ...]]:
        """The root, who holds it open, and the mounts that are still to be attached there. The joiner enters it."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.fits(spec):
            return ahead.root, ahead.anchor, spec.mounts
        assert self._program is not None
        assert self._joiner is not None
        if ahead is not None:
            ahead.anchor.kill()
            self._joiner = self._joiner.another()
        root = plan_root(spec.rootfs, [mount.target for mount in spec.mounts])
        arguments = self._arguments(root, spec.limits.scratch_bytes, spec.name, (spec.uid, spec.gid))
        for mount in spec.mounts:
            arguments += ["--bind" if mount.writable else "--ro-bind", str(mount.source), mount.target]
        anchor = ("/bin/cat",)
        if spec.tools is not None:  # it runs as root of a user namespace at best: never what an image calls cat
            arguments += ["--ro-bind", str(spec.tools), TOOLS_TARGET]
            anchor = command_beside(spec.tools, *anchor)
        made = _Anchor(self._program, [*arguments, "--remount-ro", "/", "--", *anchor])
        self._joiner.enter(made.news())
        return root, made, ()

    def _forget_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead.anchor.kill()
            self._ahead = None

    def destroy(self, name: str) -> None:
        """See the contract."""
        deadline = time.monotonic() + 5
        while True:
            found = [found for found in cgroups.find_groups(self._find_hierarchy()) if found[1] == name]
            pids = _pids_of({name, *(_mark_of(keeper) for keeper, _, _ in found)})
            groups = [group for _, _, group in found]
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
        names = {name for name, _ in _marked_processes() if not name.startswith(_AHEAD)}
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

    def _arguments(
        self, root: RootPlan, scratch_bytes: int, mark: str, user: tuple[int, int] | None = None
    ) -> list[str]:
        """bubblewrap's arguments for everything but the job's own mounts. The root can be written to then."""
        made = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net", "--unshare-cgroup-try"]
        if os.getuid() != 0 and user is not None:
            made += ["--unshare-user", "--uid", str(user[0]), "--gid", str(user[1])]
        made += ["--hostname", "sandbox", "--new-session", "--die-with-parent", "--cap-drop", "ALL"]
        made += ["--clearenv", "--setenv", _MARK, mark]
        for target in (*root.folders, "/run", "/dev"):  # first: what a bind makes on its way is closed to others
            made += ["--dir", target]
        for source, target in root.binds:
            made += ["--ro-bind", str(source), target]
        for target, says in root.links:
            made += ["--symlink", says, target]
        scratch = str(scratch_bytes)
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
        return [*made, "--dir", RUN_TARGET, "--chdir", "/"]


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
        # Killed before it has told pid 1, bubblewrap would leave that behind, waiting for it for ever.
        self._info.settimeout(_TELLS_S)
        try:
            # With pid 1 all inside end, and bubblewrap after them: it waits for pid 1.
            told = _CHILD.search(self._info.recv(4096, socket.MSG_PEEK))  # the rest may still be coming
        except TimeoutError:
            told = None
        first = int(told[1]) if told else self.pid  # it has failed before there was one
        with contextlib.suppress(ProcessLookupError):
            os.kill(first, signal.SIGKILL)
        os.close(self._lifeline)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        self.pid = 0
        self._info.close()
        os.close(self._ready)
        os.close(self._errors)


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A place that was made before its spec came."""

    likely: Likely
    root: RootPlan
    anchor: _Anchor

    def fits(self, spec: SandboxSpec) -> bool:
        """Whether it lacks nothing but the mounts, and each has a place of ours to be on."""
        parents = {str(parent) for mount in spec.mounts for parent in PurePosixPath(mount.target).parents}
        as_likely = Likely(spec.rootfs, spec.limits.scratch_bytes) == self.likely
        return as_likely and spec.tools is None and parents <= {"/", *self.root.folders}


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


def _mark_of(keeper: str) -> str:
    """Of a place that has no name yet, by the id of the group that will have it. No sandbox can be called so."""
    return f"{_AHEAD}{keeper}"


def _end_what_dead_keepers_made() -> None:
    """A keeper that is killed while bubblewrap makes a place leaves its first process behind, waiting for ever."""
    for mark, pid in _marked_processes():
        if mark.startswith(_AHEAD) and not _lives(mark.removeprefix(_AHEAD)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _lives(keeper: str) -> bool:
    pid, _, ticks = keeper.removeprefix("k").partition("-")
    return pid.isdigit() and str(start_ticks(int(pid))) == ticks


def _pids_of(marks: set[str]) -> list[int]:
    return [pid for marked, pid in _marked_processes() if marked in marks]
