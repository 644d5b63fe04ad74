"""Runs one of our own programs with nothing it does not need: no network, no privileges, few system calls.

    python -m insitu.sandbox.confine --uid 990 --gid 990 --memory-bytes 4294967296 -- python -m insitu.gate.judge

For the intake and the judge, which read what untrusted code wrote. They need
this machine's interpreter and our packages, so they get no root of their own;
what they may see is decided by their uid. In this order, each failing closed:

1. a network namespace with nothing in it, not even a loopback that is up, and
   own ipc and uts namespaces; as an ordinary user in a user namespace of its own.
   As root, where the interpreter or a package lies below a folder that is closed
   to others (root's home, mostly), a mount namespace in which that folder shows
   the interpreter and the package, read-only, and nothing else;
2. limits on memory, processor time, processes and open files;
3. as root: the uid and gid named, and no other group;
4. no capabilities, none to be had (bounding set, no_new_privs);
5. the system call filter of all sandboxes;
6. exec: same pid, same stdin and stdout.
"""

from __future__ import annotations

import os
import resource
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from insitu.domain.errors import InvalidInputError
from insitu.sandbox import kernel
from insitu.sandbox.seccomp import bpf_program

_OPTIONS = ("--uid", "--gid", "--memory-bytes", "--cpu-s", "--processes", "--open-files")


def confined_argv(
    argv: Sequence[str],
    *,
    uid: int,
    gid: int,
    memory_bytes: int,
    cpu_s: int = 0,
    processes: int = 0,
    open_files: int = 1024,
    folders: Sequence[Path] = (),
    python: str = sys.executable,
) -> list[str]:
    """The command that runs `argv` confined.

    Args:
        argv: an absolute program and its arguments.
        uid, gid: who it is then, when this is root; else it stays who it is. Never 0.
        memory_bytes: of address space.
        cpu_s: of processor time; 0: no bound.
        processes: that its uid may have; 0: no bound. Threads count.
        open_files: at a time.
        folders: that it must reach even where they lie below a folder closed to others; their own modes still decide.
        python: the interpreter that has this package.

    Raises:
        InvalidInputError: it would run as root.
    """
    if uid <= 0 or gid <= 0:
        raise InvalidInputError("a confined program can't be root", code="root-not-allowed")
    values = zip(_OPTIONS, (uid, gid, memory_bytes, cpu_s, processes, open_files), strict=True)
    options = [word for name, value in values for word in (name, str(value))]
    shown = [word for folder in folders for word in ("--folder", str(folder))]
    return [python, "-P", "-m", "insitu.sandbox.confine", *options, *shown, "--", *argv]


def main(arguments: Sequence[str]) -> int:
    """Confine this process and become the program. Returns only when it could not."""
    count = 2 * len(_OPTIONS)
    end = arguments.index("--") if "--" in arguments else 0
    values, shown, argv = arguments[:count], arguments[count:end], arguments[end + 1 :]
    if tuple(values[::2]) != _OPTIONS or set(shown[::2]) > {"--folder"} or not end or not argv:
        sys.stderr.write("confine: usage: " + " N ".join(_OPTIONS) + " N -- program arguments\n")
        return 2
    uid, gid, memory_bytes, cpu_s, processes, open_files = (int(value) for value in values[1::2])
    try:
        program = bpf_program()
        _leave_the_network([Path(path) for path in shown[1::2]])
        _limit(resource.RLIMIT_AS, memory_bytes)
        _limit(resource.RLIMIT_CPU, cpu_s)
        _limit(resource.RLIMIT_NPROC, processes)
        _limit(resource.RLIMIT_NOFILE, open_files)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        kernel.clear_bounding_set()
        if os.getuid() == 0:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        kernel.drop_capabilities()
        kernel.set_no_new_privileges()
        kernel.load_filter(program)
        os.execv(argv[0], list(argv))  # noqa: S606 - no shell: this is the program
    except OSError as exc:
        sys.stderr.write(f"confine: {exc}\n")
    return 126


def _leave_the_network(folders: list[Path]) -> None:
    others = kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
    if os.getuid() == 0:
        kernel.unshare(others)
        _open_the_way(_needed(), folders)
        return
    uid, gid = os.getuid(), os.getgid()
    kernel.unshare(kernel.CLONE_NEWUSER | others)
    for file, line in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{file}", "w", encoding="ascii") as stream:  # noqa: PTH123 - cheaper to start
            stream.write(line)


def _needed() -> list[Path]:
    """What the interpreter reads while it runs."""
    paths = [Path(path) for path in (sys.base_prefix, sys.prefix, *sys.path) if path]
    return sorted({path for given in paths for path in (given, given.resolve()) if path.is_dir()})


def _open_the_way(needed: list[Path], folders: list[Path]) -> None:
    """Lay an empty folder over each closed one, with what is needed below it bound where it was."""
    closed = {path: folder for path in [*needed, *folders] if (folder := _first_closed(path)) is not None}
    if not closed:
        return
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    opened = {path: os.open(path, os.O_PATH | os.O_DIRECTORY) for path in closed}
    for folder in sorted(set(closed.values())):
        kernel.mount("none", str(folder), "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755,size=64k")
    for path, descriptor in opened.items():
        if any(other != path and other in path.parents for other in opened):
            continue  # it comes with what it lies in
        path.mkdir(parents=True, exist_ok=True)
        kernel.mount(f"/proc/self/fd/{descriptor}", str(path), "", kernel.MS_BIND | kernel.MS_REC)
        if path not in folders:
            again = kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY | kernel.MS_NOSUID
            kernel.mount("none", str(path), "", again)
    for descriptor in opened.values():
        os.close(descriptor)


def _first_closed(path: Path) -> Path | None:
    """The topmost folder on the way to it that others may not pass."""
    for folder in reversed(path.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None


def _limit(kind: int, value: int) -> None:
    if value <= 0:
        return
    hard = resource.getrlimit(kind)[1]
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (bound, bound))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
