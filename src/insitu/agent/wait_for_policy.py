"""A policy that can't be read denies, also in the middle of a run: then outputs wait to be judged until it is mended.

The sandbox is gone by then, so waiting costs no compute, and nothing of the job is
lost by a slip of the steward's. A policy that is missing when a job is *accepted*
refuses it instead: nothing has begun.
"""

from __future__ import annotations

from insitu.agent.attempt import Attempt, Next
from insitu.domain.jobs import JobState

_LOOK_S = 0.5


def reason(attempt: Attempt) -> dict[str, str]:
    """What the job says while it waits; nothing when there is a policy."""
    if attempt.site.policy.current() is not None:
        return {}
    return {
        "code": "no-policy",
        "what": "the outputs wait to be judged, since this site has no readable policy now",
        "rule": "policy",
        "hint": "a steward mends it (at the site: `insitu policy check`), and the job goes on by itself",
    }


def wait_for_policy(attempt: Attempt) -> Next | None:
    """Return when there is a policy; where the attempt goes instead, when it is cancelled or the agent stops."""
    while attempt.site.policy.current() is None:
        if attempt.cancelled.is_set():
            return Next(JobState.CANCELLED)
        if attempt.detached.wait(_LOOK_S):
            return Next(JobState.JUDGING)
    return None
