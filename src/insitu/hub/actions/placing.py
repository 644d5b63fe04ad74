"""Places what waits: reads, decides, and applies what still holds."""

from __future__ import annotations

from datetime import datetime

from insitu.hub.placement import Placed, place
from insitu.hub.store import job_states, jobs, sites
from insitu.hub.store.session import WriteSession


def place_waiting(session: WriteSession, *, now: datetime, away_before: datetime) -> int:
    """Give each queued job a site, or the reason why it has none. Returns how many were placed.

    Part of the transaction in which a job arrives or a site gains room, so that a
    waiting agent hears of it at once.
    """
    # Two hub processes that fill the same room at once would fill it twice.
    session.one_at_a_time("place")
    waiting = jobs.waiting(session)
    if not waiting:
        return 0
    placed = 0
    answers = place([queued.job for queued in waiting], sites.rooms(session, away_before=away_before))
    for answer, queued in zip(answers, waiting, strict=True):
        if isinstance(answer, Placed):
            placed += job_states.assign(session, answer, lock=queued.locks[answer.base], now=now)
        else:
            job_states.explain_wait(session, answer, shown=queued.shown)
    return placed
