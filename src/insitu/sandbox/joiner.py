"""The fork of a keeper that joins a sandbox made by bubblewrap, and there becomes init.

It is forked ahead, while the keeper waits: it moves into a control group (which
takes longer than all the rest), enters a sandbox that was made ahead as well, and
waits to be told what will run there. Where none was, or another one is asked for, it
enters that now. Then it attaches what is still to be mounted, gives up uid and
capabilities, loads the filter, and is `init.run`.

What it imported it imported before: after entering, the file system is the
sandbox's, and nothing of that may be loaded into this process.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from insitu.sandbox import cgroups, init, kernel
from insitu.sandbox.plan import receive_descriptors, send_plan
from insitu.sandbox.spec import Mount

_ENTER: Mapping[str, Any] = {}
"""The plan that comes with an anchor's news: that there is nothing to do yet but to enter."""
_NAMESPACES = (
    ("user", kernel.CLONE_NEWUSER),
    ("ipc", kernel.CLONE_NEWIPC),
    ("uts", kernel.CLONE_NEWUTS),
    ("net", kernel.CLONE_NEWNET),
    ("pid", kernel.CLONE_NEWPID),
    ("mnt", kernel.CLONE_NEWNS),
)


class Joiner:
    """The keeper's side of it."""

    def __init__(self, group: cgroups.Group, program: bytes) -> None:
        self.group = group
        self._program = program
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._pid = os.fork()
        if self._pid == 0:
            self.channel.close()
            _wait_and_join(theirs, group, program)
        theirs.close()

    def enter(self, news: tuple[int, int, int]) -> None:
        """Enter that sandbox as soon as it is made, and wait there for `join`.

        `news` are the anchor's: a socket that says its pid, a pipe that says
        that it is ready, and one with its complaints.
        """
        send_plan(self.channel, _ENTER, news)

    def join(self, plan: Mapping[str, Any], mounts: Sequence[Mount]) -> None:
        """Be init in the sandbox that was entered, as far as to the start of the code.

        `mounts` are what it still lacks; their sources are looked at here, outside.
        """
        trees: list[int] = []
        try:
            trees.extend(kernel.copy_of_tree(str(mount.source)) for mount in mounts)
            send_plan(self.channel, {**plan, "attach": [(mount.target, mount.writable) for mount in mounts]}, trees)
        finally:
            for tree in trees:
                os.close(tree)

    def another(self) -> Self:
        """One that has entered nothing yet, in place of this one."""
        self.end()
        return type(self)(self.group, self._program)

    def start(self, streams: tuple[int, int]) -> None:
        """Let the code run, unless the sandbox is not fit for that: then it has said so."""
        with contextlib.suppress(BrokenPipeError):
            socket.send_fds(self.channel, [b"start"], streams)

    def end(self) -> None:
        """Returns when it is gone; it ends when nobody listens any more. Idempotent."""
        self.channel.close()
        if self._pid:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
            self._pid = 0


def _wait_and_join(channel: socket.socket, group: cgroups.Group, program: bytes) -> None:
    """In the fork. Never returns."""
    try:
        kernel.die_with_parent()
        _keep_only(channel.fileno())
        group.enter()
        status = os.open("/proc/self/status", os.O_RDONLY)
        received = init.receive_plan(channel)
        if received is not None:
            _enter(f"/proc/{_await_anchor(*received[1])}")
            _warm_up(channel, status)
            received = init.receive_plan(channel)
        if received is not None:
            _join(channel, *received, status, group, program)
    except OSError as exc:
        with contextlib.suppress(OSError):
            channel.sendall(f"failed join {' '.join(str(exc.strerror).split())}\n".encode())
    finally:
        os._exit(0)


def _warm_up(channel: socket.socket, status: int) -> None:
    """Do once what a plan will need, unless one is here already."""
    come = select.poll()
    come.register(channel, select.POLLIN)
    if not come.poll(0):
        init.warm_up("/proc/1", status)


def _join(
    channel: socket.socket, plan: dict[str, Any], trees: list[int], status: int, group: cgroups.Group, program: bytes
) -> None:
    if "cpu" not in group.folders:
        _bind_to_processors(plan["cpus"])
    if trees:
        _attach([(tree, *place) for tree, place in zip(trees, plan["attach"], strict=True)])
    with contextlib.suppress(OSError):  # no such namespaces before Linux 4.6
        kernel.unshare(kernel.CLONE_NEWCGROUP)  # its own group is then the root of what it sees
    plan["mountinfo"] = Path("/proc/1/mountinfo").read_text().splitlines()
    _give_up_privileges(plan["uid"], plan["gid"], program)
    init.run(channel, plan, lambda: _await_start(channel), "/proc/1", status)


def _await_start(channel: socket.socket) -> tuple[int, int] | None:
    """The code's stdout and stderr; None: the keeper has gone, or nobody wants it."""
    _, descriptors = receive_descriptors(channel, 16, 2)
    return (descriptors[0], descriptors[1]) if len(descriptors) == 2 else None


def _await_anchor(info: int, ready: int, errors: int) -> int:
    """This machine's number of the sandbox's pid 1, once all mounts are made.

    Raises:
        OSError: bubblewrap gave up; the text is its own.
    """
    if not os.read(ready, 1):
        raise OSError(0, os.read(errors, 400).decode(errors="replace").strip())
    with socket.socket(fileno=info) as peeked:
        found = json.loads(peeked.recv(4096, socket.MSG_PEEK))
    os.close(ready)
    os.close(errors)
    return int(found["child-pid"])


def _enter(inside: str) -> None:
    """Join each namespace that differs from ours."""
    joins: list[tuple[int, int]] = []
    for name, kind in _NAMESPACES:
        descriptor = os.open(f"{inside}/ns/{name}", os.O_RDONLY)
        theirs, ours = os.fstat(descriptor), Path(f"/proc/self/ns/{name}").stat()
        if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino):
            joins.append((descriptor, kind))
        else:
            os.close(descriptor)
    for descriptor, kind in joins:
        kernel.setns(descriptor, kind)
        os.close(descriptor)
    os.chdir("/")


def _attach(trees: list[tuple[int, str, bool]]) -> None:
    """Mount what a place that was made ahead still lacks, and close it. Its root is a file system of ours alone."""
    os.umask(0o022)
    for descriptor, target, writable in trees:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            Path(target).mkdir(exist_ok=True)
        elif not Path(target).exists():
            Path(target).touch()
        kernel.attach_tree(descriptor, target, read_only=not writable)
        os.close(descriptor)
    kernel.make_read_only("/")


def _give_up_privileges(uid: int, gid: int, program: bytes) -> None:
    kernel.clear_bounding_set()
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    kernel.drop_capabilities()
    kernel.set_undumpable()
    kernel.die_with_parent()  # a change of uid clears it
    kernel.set_no_new_privileges()
    kernel.load_filter(program)


def _bind_to_processors(cpus: float) -> None:
    """The fallback for a share of time: that many whole processors."""
    usable = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, usable[: max(1, min(len(usable), round(cpus + 0.499)))])


def _keep_only(descriptor: int) -> None:
    """Not the agent's pipe, not the log: whatever the keeper has open must end when the keeper does."""
    nothing = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
