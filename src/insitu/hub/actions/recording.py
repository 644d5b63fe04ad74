"""What MLflow is to know of a job. Calls MLflow, so never inside a transaction."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from insitu.domain.errors import NotFoundError
from insitu.domain.jobs import JobState
from insitu.hub.parts import Parts
from insitu.hub.store import runs, stream
from insitu.hub.tracking import RunEnd
from insitu.wire.events import LOCAL_RUN

_BATCHES = 40  # looked at in one go
_EVENTS = 5000  # written in one go

RUN_ENDS: Mapping[JobState, RunEnd] = {
    JobState.SUCCEEDED: "FINISHED",
    JobState.FAILED: "FAILED",
    JobState.REFUSED: "FAILED",
    JobState.CANCELLED: "KILLED",
}


def ensure_run(parts: Parts, job_id: str) -> str:
    """The MLflow run of a job, made when there is none yet.

    Raises:
        NotFoundError: there is no such job.
        UnavailableError: MLflow is not up.
    """
    with parts.store.read() as session:
        job = runs.of_job(session, job_id)
    if job is None:
        raise NotFoundError(f"there is no job {job_id}", code="no-such-job")
    if job.run_id:
        return job.run_id
    tags = {**{key: str(value) for key, value in job.tags.items()}, "mlflow.user": job.submitter}
    with one_at_a_time(parts, f"run:{job_id}"):
        run_id = parts.tracking.ensure_run(job_id, job.experiment, job.name, tags)
    with parts.store.write() as session:
        runs.set_run(session, job_id, run_id)
    return run_id


def record(parts: Parts, job: runs.Unrecorded) -> None:
    """Bring MLflow up to date with one job. Stopped anywhere, it is begun again from the last mark."""
    run_id = job.run_id or ensure_run(parts, job.job_id)
    mark = job.recorded
    while mark < job.cursor:
        with parts.store.read() as session:
            found = stream.after(session, job.job_id, mark, batches=_BATCHES, most=_EVENTS)
        if not found or parts.bell.closed:
            return
        begun = time.monotonic()
        _write(parts, job.job_id, run_id, found)
        with parts.store.write() as session:
            if not runs.note_recorded(session, job.job_id, before=mark, after=found[-1].cursor):
                return
        mark = found[-1].cursor
        _make_way(parts, job.job_id, time.monotonic() - begun)
    if job.ended:
        parts.tracking.finish(run_id, RUN_ENDS[job.state])
        with parts.store.write() as session:
            runs.note_closed(session, job.job_id)


def _make_way(parts: Parts, job_id: str, spent_s: float) -> None:
    """MLflow follows, and holds nobody up: half of the time, and a tenth as long as the job goes on telling."""
    topic = stream.topic(job_id)
    mark = parts.bell.mark(topic)
    parts.bell.pause(spent_s)
    if parts.bell.mark(topic) != mark:
        parts.bell.pause(8 * spent_s)


def _write(parts: Parts, job_id: str, run_id: str, found: Sequence[stream.StreamedEvent]) -> None:
    """Write events in order, run by run. What MLflow can't hold stays in the hub's own tables alone."""
    for attempt, local, events in _by_run(found):
        target = _run_of(parts, job_id, run_id, attempt, local)
        points = [
            (event["key"], float(event["value"]), event["timestamp_ms"], event["step"])
            for event in events
            if event["kind"] == "metric"
        ]
        words = {
            kind: {event["key"]: event["value"] for event in events if event["kind"] == kind}
            for kind in ("param", "tag")
        }
        if points or words["param"] or words["tag"]:
            parts.tracking.log(target, points, words["param"], words["tag"])


def _by_run(
    found: Sequence[stream.StreamedEvent],
) -> Iterator[tuple[int, str, list[dict[str, Any]]]]:
    """Events of each run, the job's own and those that the script started; a child's after its parent's."""
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for one in found:
        if one.event["kind"] in {"metric", "param", "tag"}:
            groups.setdefault((one.attempt, one.event["run"]), []).append(one.event)
        elif one.event["kind"] == "run":
            groups.setdefault((one.attempt, one.event["run"]), []).insert(0, one.event)
    for (attempt, local), events in groups.items():
        yield attempt, local, events


def _run_of(parts: Parts, job_id: str, run_id: str, attempt: int, local: str) -> str:
    if local == LOCAL_RUN:
        return run_id
    with parts.store.read() as session:
        known = runs.child_runs(session, job_id, attempt).get(local)
        started = stream.run_event(session, job_id, attempt, local) if known is None else None
    if known is not None:
        return known
    parent = run_id
    if started is not None and started["parent"] not in {LOCAL_RUN, local}:
        parent = _run_of(parts, job_id, run_id, attempt, started["parent"])
    name = (started or {}).get("name") or local
    # The attempt is part of the name: a second attempt's runs are others than the first's.
    child = parts.tracking.child_run(parent, name, local_id=f"{attempt}.{local}")
    with parts.store.write() as session:
        runs.add_child_run(session, job_id, attempt, local, child)
    return child


@contextmanager
def one_at_a_time(parts: Parts, name: str) -> Iterator[None]:
    """Wait for one's turn among the hub processes over one database; inside one process `Tracking` has its lock."""
    while True:
        with parts.store.turn(name) as mine:
            if mine:
                yield
                return
        parts.bell.pause(0.1)
