"""Writes what jobs tell into MLflow, in large batches, and ends runs as their jobs ended.

The hub's own tables are what is live; MLflow follows within seconds. A mark says
how far it has come, and writing something twice changes nothing there.

Making a run takes MLflow longer than starting a job takes everybody else, and both
would share one interpreter: so a job that was accepted this moment is left alone
until it has had the time to say its first line.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import timedelta

from insitu.domain.errors import InsituError, UnavailableError
from insitu.hub.actions import recording, releases
from insitu.hub.loops.base import Loop
from insitu.hub.parts import Parts
from insitu.hub.store import outputs, runs
from insitu.hub.store.job_states import RECORDS

_log = logging.getLogger("insitu.hub")

_JOBS = 200
_LEFT_ALONE = timedelta(seconds=0.3)


def step(parts: Parts) -> None:
    with parts.store.read() as session:
        jobs = runs.unrecorded(session, limit=_JOBS)
        admitted = outputs.unregistered(session)
    begun = parts.clock()
    starting = [job for job in jobs if not job.ended and begun - job.created_at < _LEFT_ALONE]
    _record(parts, (job for job in jobs if job not in starting))
    for release in admitted:
        if parts.bell.closed:
            return
        try:
            releases.register(parts, release)
        except UnavailableError:
            raise
        except InsituError as exc:
            _log.warning("release %s could not be registered: %s", release.id, exc.what)
    if starting:
        parts.bell.pause(_LEFT_ALONE.total_seconds())
        _record(parts, starting)


def _record(parts: Parts, jobs: Iterable[runs.Unrecorded]) -> None:
    for job in jobs:
        if parts.bell.closed:
            return
        try:
            recording.record(parts, job)
        except UnavailableError:
            raise  # MLflow is away: every other job would say the same
        except InsituError as exc:
            _log.warning("job %s could not be recorded in MLflow: %s", job.job_id, exc.what)


LOOP = Loop("write-mlflow", RECORDS, 2.0, step, pause_s=0.2)
