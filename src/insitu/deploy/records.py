"""What a site remembers of a deployment: one small file, replaced whole.

It holds what can't be found out by looking: which revision the address leads to, which
were given up and why, which port was chosen, and which process owns it. It is written
before a step is taken that depends on it, so that a restarted agent takes up there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from insitu.domain.deployments import DeploymentState, Desired, Problem, Resources
from insitu.domain.errors import IntegrityError

FORMAT = 1


@dataclass
class ProcessRecord:
    """A process that may have outlived whoever started it: a pid alone could have been given to another."""

    pid: int
    ticks: int
    """When it started, in clock ticks since boot: field 22 of /proc/pid/stat (proc(5))."""
    boot: str
    """/proc/sys/kernel/random/boot_id: ticks count from there."""


@dataclass
class InstanceRecord:
    service: str
    """The driver's name for it."""
    started_at_s: float
    was_good: bool = False
    restarts: int = 0
    stopping: bool = False


@dataclass
class Record:
    name: str
    port: int | None = None
    serving: int | None = None
    switched_at_s: float = 0.0
    endpoint: ProcessRecord | None = None
    instances: dict[int, InstanceRecord] = field(default_factory=dict)
    restarts: dict[int, int] = field(default_factory=dict)
    """Of revisions that are about to be started anew."""
    failed: dict[int, Problem] = field(default_factory=dict)
    asked: dict[int, Desired] = field(default_factory=dict)
    """What was asked of revisions that run: a former one may have to be started once more."""
    wanted: int = 0
    state: DeploymentState = DeploymentState.GONE
    """What was last said of the wanted revision."""


def write_record(path: Path, record: Record) -> None:
    """Replace the file; what was written survives a power cut."""
    write_whole(path, json.dumps({"format": FORMAT} | asdict(record), indent=1).encode())


def write_whole(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Put a file in its place as a whole: a reader sees the old one or the new one."""
    making = path.with_name(f".{path.name}.making")
    with os.fdopen(os.open(making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    making.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_record(path: Path, name: str) -> Record:
    """The record of a deployment; a fresh one when there is none yet.

    Raises:
        IntegrityError: the file is not one that this version wrote. Nothing is guessed from it.
    """
    try:
        fields: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return Record(name)
    except ValueError as exc:
        raise _unreadable(path) from exc
    try:
        if fields.pop("format") != FORMAT or fields["name"] != name:
            raise ValueError(path.name)
        return Record(**fields | _values(fields))
    except (KeyError, TypeError, ValueError) as exc:
        raise _unreadable(path) from exc


def _values(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "endpoint": ProcessRecord(**fields["endpoint"]) if fields["endpoint"] else None,
        "instances": {int(revision): InstanceRecord(**one) for revision, one in fields["instances"].items()},
        "restarts": {int(revision): int(count) for revision, count in fields["restarts"].items()},
        "failed": {int(revision): Problem(**problem) for revision, problem in fields["failed"].items()},
        "asked": {int(revision): _desired(one) for revision, one in fields["asked"].items()},
        "state": DeploymentState(fields["state"]),
    }


def _desired(fields: Mapping[str, Any]) -> Desired:
    resources = Resources(**fields["resources"])
    return Desired(**{**fields, "resources": resources, "trusted_types": tuple(fields["trusted_types"])})


def _unreadable(path: Path) -> IntegrityError:
    return IntegrityError(
        f"{path} is not a deployment's record",
        code="bad-record",
        hint="stop the agent, remove the folder of that deployment, and start it again",
    )
