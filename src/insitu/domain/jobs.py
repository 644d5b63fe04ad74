"""A job's life, as data: the only place that says what may follow what.

The diagram in docs/states.md is generated from `TRANSITIONS`. Out of reach is a
property of a site's link, shown beside a state and never one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class JobState(StrEnum):
    """Where a job is. The comment says what is physically true."""

    QUEUED = "queued"  # accepted by the hub; no site has it; `QueueReason` says why
    ASSIGNED = "assigned"  # offered to a site; the site may not know yet
    PREPARING = "preparing"  # the site has checked signature and policy; code, environment and data are being put ready
    RUNNING = "running"  # the job's process exists in its sandbox
    JUDGING = "judging"  # the sandbox is gone; the gate reads what was written
    HELD = "held"  # frozen at the site until a steward's verdict; costs no compute
    RELEASING = "releasing"  # in the ledger; on its way to the hub
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # with a `FailureClass`
    CANCELLED = "cancelled"  # confirmed by the site: its processes are gone
    REFUSED = "refused"  # the policy or a steward said no, with rule and reason


class QueueReason(StrEnum):
    """Why a queued job waits. Recomputed and shown."""

    PLACING = "placing"
    NO_SITE_HAS_DATASET = "no site offers the dataset"
    NO_SITE_HAS_BASE = "no site offers the base that the job was locked for"
    NO_SUCH_SITE = "the named site is not known"
    NO_ROOM = "no site has room"
    SITE_AWAY = "the site is out of reach"
    RETRYING = "an attempt failed and another is due"


class FailureClass(StrEnum):
    """Whose turn it is to do something about a failure."""

    SCRIPT = "script"  # the job's own code ended with an error
    LIMITS = "limits"  # time, memory, processes or disk ran out
    SANDBOX = "sandbox"  # the sandbox could not start or its self-test refused
    DATA = "data"  # the dataset is missing or is not what its version says
    ENVIRONMENT = "environment"  # packages could not be put in place
    POLICY = "policy"  # the site's policy does not let this job run
    LOST = "lost"  # the site can't tell what became of it


FINAL: frozenset[JobState] = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.REFUSED})

TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.ASSIGNED, JobState.CANCELLED, JobState.FAILED}),
    JobState.ASSIGNED: frozenset(
        {JobState.QUEUED, JobState.PREPARING, JobState.CANCELLED, JobState.FAILED, JobState.REFUSED}
    ),
    JobState.PREPARING: frozenset(
        {JobState.QUEUED, JobState.RUNNING, JobState.CANCELLED, JobState.FAILED, JobState.REFUSED}
    ),
    JobState.RUNNING: frozenset({JobState.QUEUED, JobState.JUDGING, JobState.CANCELLED, JobState.FAILED}),
    JobState.JUDGING: frozenset(
        {JobState.RELEASING, JobState.HELD, JobState.SUCCEEDED, JobState.REFUSED, JobState.CANCELLED, JobState.FAILED}
    ),
    JobState.HELD: frozenset({JobState.RELEASING, JobState.REFUSED, JobState.CANCELLED}),
    JobState.RELEASING: frozenset({JobState.SUCCEEDED, JobState.HELD, JobState.REFUSED, JobState.FAILED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.REFUSED: frozenset(),
}


def can_follow(before: JobState, after: JobState) -> bool:
    """Whether `after` may come directly after `before`."""
    return after in TRANSITIONS[before]


def is_final(state: JobState) -> bool:
    return state in FINAL


def diagram() -> str:
    """The transitions as a Mermaid state diagram, for docs/states.md."""
    lines = ["stateDiagram-v2", "    [*] --> queued"]
    for before in JobState:
        lines += [f"    {before} --> {after}" for after in JobState if can_follow(before, after)]
    lines += [f"    {state} --> [*]" for state in JobState if is_final(state)]
    return "\n".join(lines) + "\n"
