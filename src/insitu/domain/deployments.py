"""Deployments: what should be served at a site, what is, and what may follow what.

A *deployment* is a name and an address that stays; a *revision* is one signed version
of it: an image, a model, resources. Two revisions exist side by side only while one
takes over from the other. The diagram in docs/states.md is generated from `TRANSITIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from insitu.domain.digests import Digest


class DeploymentState(StrEnum):
    """Where a revision of a deployment is. The comment says what is physically true."""

    PENDING = "pending"  # wanted; nothing has been done for it
    FETCHING = "fetching"  # base, environment and model are being put in place
    STARTING = "starting"  # its process exists; it has not yet been ready often enough in a row
    HEALTHY = "healthy"  # it is ready, and the address leads to it
    UNHEALTHY = "unhealthy"  # it was healthy and no longer answers; the address may still lead to it
    FAILED = "failed"  # it will not be tried again; no process of it is left; the error says why
    STOPPING = "stopping"  # its process has been asked to end
    GONE = "gone"  # nothing of it is left


_S = DeploymentState

TRANSITIONS: Mapping[DeploymentState, frozenset[DeploymentState]] = {
    _S.PENDING: frozenset({_S.FETCHING, _S.FAILED, _S.STOPPING, _S.GONE}),
    _S.FETCHING: frozenset({_S.STARTING, _S.FAILED, _S.STOPPING}),
    # back to fetching, here and below: the process ended and is started once more
    _S.STARTING: frozenset({_S.HEALTHY, _S.FETCHING, _S.FAILED, _S.STOPPING}),
    _S.HEALTHY: frozenset({_S.UNHEALTHY, _S.FETCHING, _S.FAILED, _S.STOPPING}),
    _S.UNHEALTHY: frozenset({_S.HEALTHY, _S.FETCHING, _S.FAILED, _S.STOPPING}),
    _S.FAILED: frozenset({_S.STOPPING, _S.GONE}),
    # wanted again while it ends
    _S.STOPPING: frozenset({_S.GONE, _S.PENDING, _S.FETCHING, _S.FAILED}),
    _S.GONE: frozenset({_S.PENDING}),
}


def can_follow(before: DeploymentState, after: DeploymentState) -> bool:
    """Whether `after` may come directly after `before`."""
    return after in TRANSITIONS[before]


def diagram() -> str:
    """The transitions as a Mermaid state diagram, for docs/states.md."""
    lines = ["stateDiagram-v2", "    [*] --> pending"]
    for before in DeploymentState:
        lines += [f"    {before} --> {after}" for after in DeploymentState if can_follow(before, after)]
    lines += ["    gone --> [*]"]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Resources:
    cpus: float = 1.0
    memory_bytes: int = 1 << 30


@dataclass(frozen=True)
class Desired:
    """One revision that should be served. Whoever makes one has verified its signature and the policy."""

    name: str
    revision: int
    model_name: str
    model_version: str
    image: Digest | None
    """None: a resident model, whose image its site builds."""
    base: Digest
    lock: Digest
    model: Digest
    """Of the released model's files."""
    port: int | None = None
    """None: the site picks one of its range, and keeps it for this deployment."""
    resources: Resources = field(default_factory=Resources)
    trusted_types: tuple[str, ...] = ()
    """skops types beyond scikit-learn's own, from the site's policy."""


@dataclass(frozen=True)
class Problem:
    """Why something is failed or unhealthy, in words of ours; fits what a report to the hub may hold."""

    code: str
    what: str
    hint: str = ""


@dataclass(frozen=True)
class Observed:
    """What is true of a deployment now."""

    name: str
    revision: int
    """The wanted revision, which `state` and `problem` are about."""
    state: DeploymentState
    url: str = ""
    """Where it answers, once an address is held; also while a former revision answers there."""
    serving: int | None = None
    """The revision that the address leads to; after a failed rollout it is the former one."""
    problem: Problem | None = None
