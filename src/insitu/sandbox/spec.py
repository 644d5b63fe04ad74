"""What a sandbox is given, and what it answers.

Values only. They travel as JSON from the agent to a keeper and back through
files, so each has `to_json()` and `from_json()`, and reading refuses what is
malformed rather than guessing: a limit that was read wrongly is no limit.

A sandbox always has its own fresh `/tmp`, no network, a read-only root and no
privileges; none of that can be asked for or left out here. A spec only says
which folders are seen, who the code is, and how much it may use.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, Self

from insitu.domain.errors import InvalidInputError

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Mount:
    source: Path
    """On this machine: a folder or a file. It must exist; links are not followed in its last part."""
    target: str
    """Absolute, inside."""
    writable: bool = False
    """The keeper gives a writable folder (itself, not what is in it) to the job's uid before the start."""

    def __post_init__(self) -> None:
        _check_inside(self.target)
        if not self.source.is_absolute():
            raise InvalidInputError(f"the mount {self.source} is not an absolute path", code="bad-mount")


@dataclass(frozen=True, slots=True)
class Limits:
    memory_bytes: int
    cpus: float
    processes: int
    wall_s: float
    scratch_bytes: int
    """For /tmp and again for /dev/shm; what lies there counts as memory too."""
    open_files: int = 4096
    file_bytes: int | None = None
    """The largest single file; None: no bound but the disk's."""

    def __post_init__(self) -> None:
        for name in ("memory_bytes", "cpus", "processes", "wall_s", "scratch_bytes", "open_files"):
            if not getattr(self, name) > 0:
                raise InvalidInputError(f"the limit {name} must be more than 0", code="bad-limit")


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    name: str
    """Unique at this machine, and fit for a container's name: what a sandbox is found again by."""
    rootfs: Path
    """The unpacked base, or a job's own image. It is never written to."""
    argv: tuple[str, ...]
    env: Mapping[str, str]
    """All that the code sees; nothing is inherited."""
    workdir: str
    mounts: tuple[Mount, ...]
    limits: Limits
    uid: int
    gid: int
    """This machine's ids of the job's code. When the keeper is an ordinary user, its own are used instead."""
    gate_port: int = 0
    """127.0.0.1:<port> inside is served by whoever has the streams, who is handed the listening socket; 0: by nobody."""
    selftest: tuple[str, ...] = ()
    """Targets that the self-test proves to be read-only by trying to write, beside all read-only mounts."""
    grace_s: float = 10
    """Between asking the code to end and killing it."""
    tools: Path | None = None
    """The base, where `rootfs` is a job's own image: what of ours starts inside is taken from here (`beside`)."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidInputError(f"{self.name[:80]!r} can't name a sandbox", hint="a-z, 0-9, dot, dash; up to 63")
        if not self.argv:
            raise InvalidInputError(f"the sandbox {self.name} has nothing to run", code="bad-command")
        if self.uid <= 0 or self.gid <= 0:
            raise InvalidInputError(f"the sandbox {self.name} would run as root", code="root-not-allowed")
        _check_inside(self.workdir)
        for key in self.env:
            if not key or "=" in key or "\0" in key:
                raise InvalidInputError(f"{key!r} can't name an environment variable")

    def to_json(self) -> str:
        return json.dumps(self.as_dict())

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises InvalidInputError: it is not a spec."""
        return cls.from_dict(_object(text))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a JSON document that this is a part of."""
        return {
            "name": self.name,
            "rootfs": str(self.rootfs),
            "argv": list(self.argv),
            "env": dict(self.env),
            "workdir": self.workdir,
            "mounts": [{"source": str(m.source), "target": m.target, "writable": m.writable} for m in self.mounts],
            "limits": {name: getattr(self.limits, name) for name in Limits.__dataclass_fields__},
            "uid": self.uid,
            "gid": self.gid,
            "gate_port": self.gate_port,
            "selftest": list(self.selftest),
            "grace_s": self.grace_s,
            "tools": str(self.tools) if self.tools else None,
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """Raises InvalidInputError: it is not a spec."""
        try:
            fields = dict(given)
            mounts = tuple(Mount(Path(m["source"]), m["target"], bool(m["writable"])) for m in fields.pop("mounts"))
            tools = fields.pop("tools")
            return cls(
                rootfs=Path(fields.pop("rootfs")),
                argv=tuple(fields.pop("argv")),
                mounts=mounts,
                limits=Limits(**fields.pop("limits")),
                selftest=tuple(fields.pop("selftest")),
                tools=Path(tools) if tools else None,
                **fields,
            )
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            raise InvalidInputError("this is not a sandbox spec", code="bad-spec", why=type(exc).__name__) from exc


class Reason(enum.StrEnum):
    """Why a sandbox is over."""

    EXITED = "exited"  # the code ended by itself: exit_code or signal says how
    TIMEOUT = "timeout"  # wall time was up; it was asked to end, then killed
    MEMORY = "memory"  # the kernel killed it, or part of it, at its memory limit
    STOPPED = "stopped"  # somebody asked; it was asked to end, then killed
    SELFTEST = "selftest"  # a guard was not in place: the code never ran
    FAILED_TO_START = "failed_to_start"  # it could not be set up, or its program not be run
    LOST = "lost"  # nobody saw the end: the machine or the keeper went down


@dataclass(frozen=True, slots=True)
class SandboxResult:
    reason: Reason
    exit_code: int | None = None
    signal: int | None = None
    detail: str = ""
    """Our own words only, never anything that the code printed or named."""
    started_at: datetime | None = None
    """When the code was started, after the self-test; None: it never was."""
    ended_at: datetime | None = field(default=None)

    def to_json(self) -> str:
        return json.dumps(
            {
                "reason": self.reason.value,
                "exit_code": self.exit_code,
                "signal": self.signal,
                "detail": self.detail,
                "started_at": self.started_at.isoformat() if self.started_at else None,
                "ended_at": self.ended_at.isoformat() if self.ended_at else None,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises InvalidInputError: it is not a result."""
        fields = _object(text)
        try:
            times = {key: fields.pop(key) for key in ("started_at", "ended_at")}
            return cls(
                reason=Reason(fields.pop("reason")),
                started_at=datetime.fromisoformat(times["started_at"]) if times["started_at"] else None,
                ended_at=datetime.fromisoformat(times["ended_at"]) if times["ended_at"] else None,
                **fields,
            )
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            raise InvalidInputError(
                "this is not a sandbox's result", code="bad-result", why=type(exc).__name__
            ) from exc


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as exc:
        raise InvalidInputError("this is not JSON", code="bad-json") from exc
    if not isinstance(found, dict):
        raise InvalidInputError("this is not a JSON object", code="bad-json")
    return found  # pyright: ignore[reportUnknownVariableType] - what is in it is checked by who asked


def _check_inside(target: str) -> None:
    path = PurePosixPath(target)
    if not path.is_absolute() or ".." in path.parts or str(path) != target:
        raise InvalidInputError(
            f"{target[:80]!r} is not a plain absolute path inside a sandbox", code="bad-mount", hint="as in /job/code"
        )
