"""What a steward may ask about a policy that is not in force yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from insitu.agent.replay import Replay
from insitu.agent.settings import load_settings
from insitu.agent.steward import Steward

MOST_JOBS = 500


def policy_test(steward: Steward, *, text: str, last: int = 20, since: str = "") -> dict[str, Any]:
    """The site's last jobs under the policy that `text` states: what would have been otherwise.

    Raises:
        InvalidInputError: it is no policy.
    """
    settings = load_settings(steward.folder)
    replay = Replay(
        folder=steward.folder,
        store=steward.store,
        ledger=steward.ledger,
        base=settings.base or "",
        cache=steward.cache,
        gate_uid=settings.gate_gid,
    )
    start = datetime.fromisoformat(since) if since else None
    jobs = replay.under(text, last=min(last, MOST_JOBS), since=start)
    return {
        "jobs": [{**asdict(job), "differs": job.differs, "certain": job.is_certain} for job in jobs],
        "asked": len(jobs),
        "differ": sum(job.differs for job in jobs),
        "uncertain": sum(not job.is_certain for job in jobs),
    }


CALLS: Mapping[str, Callable[..., Any]] = {"policy_test": policy_test}
"""By name, each with the steward as its first argument."""
