"""What it takes to run one revision of a deployment, whatever runs it.

A driver keeps no memory of its own that matters: everything is found again by the
service's name, which is unique on the machine. Each method may be repeated.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from insitu.domain.deployments import Desired, Problem

SOCKET = "serve.sock"
"""The name of the socket in a service's folder."""


@dataclass(frozen=True)
class ServiceNames:
    """How services are named, so that a site finds its own again among all sandboxes of a machine.

    Two sites may share a machine, even under one name, and jobs have names too: what is
    found by a mere prefix could be somebody else's. A name is at most 63 long.
    """

    prefix: str
    place: Path
    """The site's state folder; no other site has it."""

    def of(self, deployment: str, revision: int) -> str:
        return f"{self._stem}{_short_digest(deployment)}-r{revision}"

    def owns(self, service: str) -> bool:
        rest = service.removeprefix(self._stem)
        return rest != service and re.fullmatch(r"[0-9a-f]{10}-r[0-9]+", rest) is not None

    @property
    def _stem(self) -> str:
        return f"{self.prefix[:PREFIX_LENGTH]}{_short_digest(str(self.place.resolve()))}-"


PREFIX_LENGTH = 30
"""So much of a prefix is used."""


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


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
