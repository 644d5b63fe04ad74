"""The one contract that bubblewrap, Podman and Docker all keep.

An implementation does little: it makes a place that is sealed off, and lets
`init.py` run there. The rest is the same for all and is not theirs: `init.py`
tests the guards from inside, starts the code and tells how it ended;
`keeper.py` stands outside, enforces wall time, stops, and writes down the
result.

What every implementation promises, and the contract suite tries on each:

1. No network but an empty loopback. Own pid, ipc, uts, network, mount and
   (where the kernel has them) cgroup namespaces.
2. The root is the base, read-only; so is every mount that is not declared
   writable. `/tmp` and `/dev/shm` are fresh, bounded and vanish.
3. The code is never uid 0 of this machine, has no capability and can gain none
   (no_new_privs), and can make only the system calls of `seccomp/`.
4. Memory, processor, processes, files and wall time are bounded, by what
   `Capabilities` names.
5. When the keeper or the sandbox's first process dies, everything inside does.
6. After `destroy` nothing is left: no process, mount, container or cgroup.
"""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from insitu.domain.errors import InsituError, InvalidInputError, UnavailableError
from insitu.sandbox.spec import SandboxSpec

LABEL = "insitu.sandbox"
"""The label (containers) by which our own are told from others; its value is the sandbox's name."""


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """Where programs and sockets are, and where we may keep small files of our own."""

    state_dir: Path
    """Ours alone; made when missing, mode 0700."""
    bwrap: str = "bwrap"
    podman: str = "podman"
    docker_socket: Path = Path("/var/run/docker.sock")

    def as_dict(self) -> dict[str, str]:
        return {name: str(getattr(self, name)) for name in self.__dataclass_fields__}

    @classmethod
    def from_dict(cls, given: Mapping[str, str]) -> Self:
        """Raises InvalidInputError: these are not settings."""
        try:
            return cls(
                state_dir=Path(given["state_dir"]),
                bwrap=given["bwrap"],
                podman=given["podman"],
                docker_socket=Path(given["docker_socket"]),
            )
        except (TypeError, KeyError) as exc:
            raise InvalidInputError("these are not a sandbox's settings", why=type(exc).__name__) from exc


@dataclass(frozen=True, slots=True)
class Likely:
    """What the next spec will probably say. A place made ahead for it is thrown away when it says something else."""

    rootfs: Path
    scratch_bytes: int

    def as_dict(self) -> dict[str, Any]:
        return {"rootfs": str(self.rootfs), "scratch_bytes": self.scratch_bytes}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        return cls(Path(given["rootfs"]), int(given["scratch_bytes"]))


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an implementation can do on this machine, found by trying."""

    name: str
    available: bool
    why_not: str = ""
    hint: str = ""
    version: str = ""
    rootless: bool = False
    enforced: Mapping[str, str] | None = None
    """limit → mechanism: `cgroup v1`, `cgroup v2`, `engine`, `rlimit`, `affinity`, `keeper`, `tmpfs`."""


def not_available(name: str, why: str, hint: str) -> Capabilities:
    return Capabilities(name=name, available=False, why_not=why[-300:], hint=hint, rootless=os.getuid() != 0)


def is_available(name: str, version: str, enforced: Mapping[str, str]) -> Capabilities:
    return Capabilities(
        name=name, available=True, version=version.strip(), rootless=os.getuid() != 0, enforced=dict(enforced)
    )


class Started(Protocol):
    """A sandbox whose first process is about to say `started` or why not."""

    channel: socket.socket
    """To `init.py`. Its end of file means: the first process is gone."""

    def memory_kills(self) -> int:
        """How often the kernel killed something inside at the memory limit so far."""
        ...

    def kill(self) -> None:
        """running → gone: everything inside, at once. Returns when no process is left. Idempotent."""
        ...


class Sandbox(Protocol):
    """One way to seal code off."""

    @property
    def name(self) -> str: ...

    def probe(self) -> Capabilities:
        """Whether it works here, by trying, and which limits it enforces how. Raises nothing."""
        ...

    def prepare(self, likely: Likely | None = None) -> None:
        """What a start needs and no spec decides, done ahead by a process that will start one. May be left out."""
        ...

    def unprepare(self) -> None:
        """Undo `prepare`, when nothing will be started after all. Idempotent."""
        ...

    def start(self, spec: SandboxSpec, room: Path, streams: Callable[[], tuple[int, int]]) -> Started:
        """nothing → starting. Makes the place and lets `init.py` run in it.

        `room` is where a folder can be made that is closed to others: it is not
        there yet. `streams` gives the ends that the code's stdout and stderr shall be, and waits
        until the sandbox is wanted: called once, it comes before anything that
        others could find by the sandbox's name, and before the code runs. What
        can be done ahead of it overlaps with the caller's own work. The caller
        closes its copies.

        Raises:
            UnavailableError: it could not be made. Nothing is left.
        """
        ...

    def destroy(self, name: str) -> None:
        """anything → gone. No process, mount, container or cgroup of that name is left.

        Idempotent, and for any name: destroying what never was is not an error.
        It needs neither the keeper nor its files, only the name.

        Raises:
            UnavailableError: it is still there.
        """
        ...

    def running(self) -> frozenset[str]:
        """The names of all our sandboxes that exist here, whoever started them: to re-adopt, or to find orphans."""
        ...


SANDBOXES: Mapping[str, str] = {
    "podman": "insitu.sandbox.podman:PodmanSandbox",
    "docker": "insitu.sandbox.docker:DockerSandbox",
    "bubblewrap": "insitu.sandbox.bubblewrap:BubblewrapSandbox",
}
"""In the order of preference when none is named. Imported on use."""


def open_sandbox(name: str, settings: SandboxSettings) -> Sandbox:
    """The implementation of that name, not asked whether it works here.

    Raises:
        InvalidInputError: there is none of that name.
    """
    where = SANDBOXES.get(name)
    if where is None:
        raise InvalidInputError(
            f"there is no sandbox {name[:40]!r}", code="unknown-sandbox", hint=f"one of {', '.join(SANDBOXES)}"
        )
    module, _, attribute = where.partition(":")
    return getattr(importlib.import_module(module), attribute)(settings)


def choose(name: str | None, settings: SandboxSettings) -> Sandbox:
    """The sandbox to use here: the one named, or the first that works.

    Raises:
        InvalidInputError: there is none of that name.
        UnavailableError: the one named, or none at all, works here.
    """
    reasons: list[Capabilities] = []
    for candidate in [name] if name else list(SANDBOXES):
        sandbox = open_sandbox(candidate, settings)
        found = sandbox.probe()
        if found.available:
            return sandbox
        reasons.append(found)
    raise UnavailableError(
        f"{name or 'no sandbox'} {'does not work' if name else 'works'} on this machine",
        code="no-sandbox",
        why="; ".join(f"{r.name}: {r.why_not}" for r in reasons),
        hint=reasons[-1].hint if name else "install one: apt install podman, or docker.io, or bubblewrap",
    )


def failed_to_make(name: str, exc: Exception | str, hint: str = "") -> InsituError:
    return UnavailableError(
        f"the sandbox {name} could not be made", code="sandbox-not-made", why=str(exc)[:500], hint=hint
    )
