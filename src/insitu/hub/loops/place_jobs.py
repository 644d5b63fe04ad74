"""Places what waits, and keeps the reasons true of what goes on waiting.

Most jobs never wait for this: they are placed in the transaction that brings them.
The decision itself is in `hub.placement`, pure.
"""

from __future__ import annotations

from insitu.hub.actions.placing import place_waiting
from insitu.hub.loops.base import Loop
from insitu.hub.parts import Parts
from insitu.hub.store import jobs
from insitu.hub.store.job_states import PLACING


def step(parts: Parts) -> None:
    with parts.store.read() as session:
        if not jobs.any_waiting(session):
            return
    with parts.store.write() as session:
        place_waiting(session, now=parts.clock(), away_before=parts.away_before())


LOOP = Loop("place-jobs", PLACING, 2.0, step)
