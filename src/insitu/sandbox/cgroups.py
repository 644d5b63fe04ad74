"""Control groups for a sandbox that no engine makes them for.

Where this machine grants them: version 2 when its controllers are there, else
version 1, controller by controller. A group is `insitu/<id>` below the topmost
group that we may write to: as root the root group (v2) or our own (v1), as a
user what systemd delegated. What is not granted is said by `probe`, and the
caller falls back to rlimits.

A process that moves into a group waits for every processor to pass a quiescent
state: 20 ms and more, as much as all the rest of a start. So a keeper makes a
group and moves its fork in while nobody waits, and the group gets its limits
and its name later. The name is an empty group below it, `name.<sandbox>`:
version 2 can't rename, and so a group is found by name without anybody's files.

Sources: the kernel's Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from insitu.sandbox.spec import Limits

_PARENT = "insitu"
_LABEL = "name."
_MOUNTS = Path("/sys/fs/cgroup")
_PERIOD_US = 100_000  # of the CPU quota; the kernel's default


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where groups can be made here."""

    version: int
    """1, 2, or 0 for nowhere."""
    parents: Mapping[str, Path]
    """controller (memory, cpu, pids) → the folder in which `insitu/` is or can be made."""

    def mechanism(self, controller: str) -> str | None:
        return f"cgroup v{self.version}" if controller in self.parents else None


@dataclass(frozen=True, slots=True)
class Group:
    """One sandbox's groups: one folder (v2), or one for each controller (v1)."""

    version: int
    folders: Mapping[str, Path]

    def enter(self) -> None:
        """Move this process in; what it starts is born inside."""
        for folder in set(self.folders.values()):
            _write(folder / "cgroup.procs", "0")

    def assign(self, name: str, limits: Limits) -> None:
        """From now on it is the sandbox of that name that is limited here.

        Raises:
            OSError: the machine said it could, and now can't.
        """
        if not self.folders:
            return
        (_labelled(self.folders) / f"{_LABEL}{name}").mkdir()
        for controller, folder in self.folders.items():
            for file, value in _settings(self.version, controller, limits):
                _write(folder / file, value)
        # Where the kernel counts swap apart; without this, pages go there and the limit says little.
        for file, value in (("memory.swap.max", "0"), ("memory.swappiness", "0"), ("memory.oom.group", "1")):
            with contextlib.suppress(OSError, KeyError):
                _write(self.folders["memory"] / file, value)

    def memory_kills(self) -> int:
        folder = self.folders.get("memory")
        if folder is None:
            return 0
        file = folder / ("memory.events" if self.version == 2 else "memory.oom_control")
        return _counter(file, "oom_kill")

    def destroy(self) -> bool:
        """Kill what is inside and remove the groups. Whether they are gone."""
        # The labelled one last: while it is there, the rest can be found again.
        ordered = sorted(set(self.folders.values()), key=lambda folder: folder == _labelled(self.folders))
        return not [folder for folder in ordered if not _remove(folder)]


def find_hierarchy(mounts: Path = _MOUNTS, own: str | None = None) -> Hierarchy:
    """Where groups can be made, by looking and trying to make `insitu/`."""
    lines = (own if own is not None else Path("/proc/self/cgroup").read_text()).splitlines()
    paths = _paths(lines)
    if (mounts / "cgroup.controllers").is_file():
        parent = _topmost_writable(mounts, paths.get("", "/"))
        found = _enable_v2(parent) if parent else set[str]()
        return Hierarchy(2, dict.fromkeys(sorted(found), parent)) if parent and found else Hierarchy(0, {})
    parents: dict[str, Path] = {}
    for controller in ("memory", "cpu", "pids"):
        folder = mounts / controller / paths.get(controller, "/").lstrip("/")
        with contextlib.suppress(OSError):
            (folder / _PARENT).mkdir(exist_ok=True)
            if os.access(folder / _PARENT, os.W_OK):
                parents[controller] = folder
    return Hierarchy(1 if parents else 0, parents)


def make_group(hierarchy: Hierarchy, keeper: str) -> Group:
    """Empty groups for the keeper of that id, without limits yet.

    Raises:
        OSError: the machine said it could, and now can't. Nothing is left.
    """
    group = _group(hierarchy, keeper)
    try:
        for folder in set(group.folders.values()):
            folder.mkdir(exist_ok=True)
    except OSError:
        group.destroy()
        raise
    return group


def find_groups(hierarchy: Hierarchy) -> Iterator[tuple[str, str, Group]]:
    """(the keeper's id, the sandbox's name or nothing, its groups) of all that exist."""
    keepers: set[str] = set()
    for parent in set(hierarchy.parents.values()):
        with contextlib.suppress(OSError):
            keepers |= {entry.name for entry in os.scandir(parent / _PARENT) if entry.is_dir()}
    for keeper in sorted(keepers):
        group = _group(hierarchy, keeper)
        names: list[str] = []
        with contextlib.suppress(OSError):
            names = [entry.name for entry in os.scandir(_labelled(group.folders)) if entry.name.startswith(_LABEL)]
        yield keeper, names[0].removeprefix(_LABEL) if names else "", group


def memory_counter_of(pid: int, mounts: Path = _MOUNTS) -> Callable[[], int]:
    """How often the kernel killed at the memory limit in the group that process is in now; 0 where none can tell."""
    with contextlib.suppress(OSError):
        paths = _paths(Path(f"/proc/{pid}/cgroup").read_text().splitlines())
        v2 = mounts / paths.get("", "/").lstrip("/") / "memory.events"
        v1 = mounts / "memory" / paths.get("memory", "/").lstrip("/") / "memory.oom_control"
        file = v1 if "memory" in paths else v2
        return lambda: _counter(file, "oom_kill")
    return lambda: 0


def _paths(lines: list[str]) -> dict[str, str]:
    """controller → the group's path; v2 has the empty name."""
    return {name: path for _, names, path in (line.split(":", 2) for line in lines) for name in names.split(",")}


def _group(hierarchy: Hierarchy, keeper: str) -> Group:
    return Group(hierarchy.version, {c: parent / _PARENT / keeper for c, parent in hierarchy.parents.items()})


def _labelled(folders: Mapping[str, Path]) -> Path:
    """The folder that carries the name: of the controller that costs least."""
    return folders.get("pids") or next(iter(folders.values()))


def _settings(version: int, controller: str, limits: Limits) -> list[tuple[str, str]]:
    quota_us = int(limits.cpus * _PERIOD_US)
    if controller == "memory":
        return [("memory.max" if version == 2 else "memory.limit_in_bytes", str(limits.memory_bytes))]
    if controller == "pids":
        return [("pids.max", str(limits.processes))]
    if version == 2:
        return [("cpu.max", f"{quota_us} {_PERIOD_US}")]
    return [("cpu.cfs_period_us", str(_PERIOD_US)), ("cpu.cfs_quota_us", str(quota_us))]


def _topmost_writable(mounts: Path, own: str) -> Path | None:
    """As high as we may write: processes have to be moved past no group that isn't ours."""
    best: Path | None = None
    folder = mounts / own.lstrip("/")
    while True:
        if os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK):
            best = folder
        if folder == mounts:
            return best
        folder = folder.parent


def _enable_v2(parent: Path) -> set[str]:
    """Give `insitu/` below the parent its controllers; which of them it can then hand on."""
    group = parent / _PARENT
    try:
        group.mkdir(exist_ok=True)
    except OSError:
        return set()
    for folder in (parent, group):
        for controller in ("memory", "cpu", "pids"):
            with contextlib.suppress(OSError):
                _write(folder / "cgroup.subtree_control", f"+{controller}")
    with contextlib.suppress(OSError):
        return set((group / "cgroup.subtree_control").read_text().split()) & {"memory", "cpu", "pids"}
    return set()


def _remove(folder: Path) -> bool:
    deadline = time.monotonic() + 5
    while folder.is_dir():
        with contextlib.suppress(OSError):
            for pid in (folder / "cgroup.procs").read_text().split():
                if int(pid) != os.getpid():
                    os.kill(int(pid), 9)
            for child in folder.glob(f"{_LABEL}*"):
                child.rmdir()
        try:
            folder.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)  # the kernel tells nobody when a killed process has left its group
    return True


def _counter(file: Path, key: str) -> int:
    with contextlib.suppress(OSError):
        for line in file.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    return 0


def _write(file: Path, value: str) -> None:
    # Not write_text: it would truncate, and some of these files refuse that.
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)
