"""What it takes to run one revision of a deployment, whatever runs it.

A driver keeps no memory of its own that matters: everything is found again by the
service's name, which is unique on the machine. Each method may be repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from insitu.domain.deployments import Desired, Problem

SOCKET = "serve.sock"
"""The name of the socket in a service's folder."""


@dataclass(frozen=True)
class Places:
    """Where on this machine the parts of a revision lie, each checked by its digest. All are read, none written."""

    rootfs: Path
    """The unpacked base."""
    environment: Path
    """The tree of packages that is seen at /opt/env."""
    serving: Path
    """A folder that holds the package of the serving process, as `serving_code` makes it."""
    model: Path
    """The folder with the MLmodel file."""


@dataclass(frozen=True)
class Service:
    """One revision, ready to be started."""

    name: str
    """Unique on this machine; what it is found again by."""
    desired: Desired
    places: Places
    folder: Path
    """On this machine: empty; the service makes its socket in it, and can write nowhere else."""


@dataclass(frozen=True)
class Running:
    pass


@dataclass(frozen=True)
class Ended:
    problem: Problem


Status = Running | Ended | None
"""None: nothing is known of it; it never was, or was destroyed."""


class Driver(Protocol):
    def start(self, service: Service) -> None:
        """nothing → running. Starting one that runs is not an error and changes nothing.

        Raises:
            InsituError: it could not be started; nothing of it is left.
        """
        ...

    def status(self, name: str) -> Status:
        """What is true now. Quick."""
        ...

    def stop(self, name: str) -> None:
        """running → ended, some time later: asked first, killed after a grace. Returns at once."""
        ...

    def destroy(self, name: str) -> None:
        """anything → None: no process and no record of it is left when this returns."""
        ...

    def names(self) -> frozenset[str]:
        """All services that exist on this machine, also those that another process started."""
        ...
