"""Metrics from a site to the hub, in batches, against `MlflowClient.log_batch` to `mlflow server`.

Ours is what gate and agent do: 500 events written as the gate writes them, then
`POST /agent/v1/events`, each batch validated by the hub and on its disk (SQLite,
synchronous=FULL) when it is answered, one after the other over one connection; then
the same with the agent's whole stream before it (journal, ledger entry with its
fsync, batch). The hub goes on writing to MLflow meanwhile. The reference sends batches of 100, which is what
MLflow's own clients send.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path

from benchmarks.figures import Goal, Row, in_turns
from benchmarks.scene import Scene
from benchmarks.speaking_site import SpeakingSite
from insitu.agent.hub_link import HubLink
from insitu.agent.ledger import Ledger
from insitu.agent.spare_threads import SpareThreads
from insitu.agent.store import Store
from insitu.agent.stream import About, AttemptStream
from insitu.domain.jobs import FailureClass, JobState
from insitu.wire.events import StateEvent
from insitu.wire.plain_metrics import metric_line
from insitu.wire.sync import Assignment

_ROUNDS = 5
_BATCH = 500
_BATCHES = 20
_REFERENCE_BATCH = 100
_REFERENCE_BATCHES = 10


def measure(scene: Scene) -> Iterator[Row]:
    site = SpeakingSite(scene, "bench")
    log_batch = _log_batch_to(scene.mlflow_server)
    posted = _Posts(site.link, site.take_job(scene.fresh_folder("job")))
    try:
        ours, theirs = in_turns(scene.rounds(_ROUNDS), posted.one_round, log_batch)
    finally:
        posted.end()
    against = "log_batch to mlflow server"
    yield Row("metrics, gate to hub", "events/s", ours, against, theirs, Goal(at_least=20.0))
    stream = _Stream(scene.fresh_folder("stream"), site.link, site.take_job(scene.fresh_folder("job")))
    try:
        ours, theirs = in_turns(scene.rounds(_ROUNDS), stream.one_round, log_batch)
    finally:
        stream.close()
    yield Row("… with the agent's journal and ledger", "events/s", ours, against, theirs)


class _Posts:
    """Batches of events of one attempt, posted one after the other."""

    def __init__(self, link: HubLink, job: Assignment) -> None:
        self._link, self._job = link, job
        self._seq = count(1)
        self._say(JobState.PREPARING)
        self._say(JobState.RUNNING)

    def one_round(self) -> float:
        """Events a second."""
        begun = time.perf_counter()
        for _ in range(_BATCHES):
            now = datetime.now(UTC)
            seqs = list(islice(self._seq, _BATCH))
            self._send([metric_line(seq=seq, at=now, run="", key="loss", value=1.0 / seq, step=seq) for seq in seqs])
        return _BATCH * _BATCHES / (time.perf_counter() - begun)

    def end(self) -> None:
        """The job is over: nobody has to wait for it."""
        self._say(JobState.FAILED, FailureClass.LOST)

    def _say(self, state: JobState, failure: FailureClass | None = None) -> None:
        event = StateEvent(seq=next(self._seq), at=datetime.now(UTC), state=state, failure=failure)
        self._send([event.model_dump_json()])

    def _send(self, events: list[str]) -> None:
        job = self._job
        head = {"job_id": job.job_id, "attempt": job.attempt, "fence": job.fence, "entry": 1, "size_bytes": 0}
        body = f'{json.dumps(head)[:-1]},"events":[{",".join(events)}]}}'
        acknowledged = self._link.send_events(body.encode())
        last = json.loads(events[-1])["seq"]
        if acknowledged != last:
            raise RuntimeError(f"the hub holds {acknowledged}, not {last}")


class _Stream:
    """The same events through all that an agent puts before the hub."""

    def __init__(self, folder: Path, link: HubLink, job: Assignment) -> None:
        self._store, self._ledger = Store(folder / "store.sqlite3"), Ledger(folder / "ledger.jsonl")
        self._stream = AttemptStream(
            folder / "journal",
            About(job.job_id, job.attempt, job.fence, datasets=(), submitter="alice", policy_version=1),
            store=self._store,
            ledger=self._ledger,
            link=link,
            may_spend=lambda *_: True,
            has_policy=lambda: True,
            clock=lambda: datetime.now(UTC),
            acked=0,
            threads=SpareThreads(),
        )
        self._stream.add([{"kind": "state", "state": state} for state in ("preparing", "running")])
        self._stream.drain()

    def one_round(self) -> float:
        """Events a second."""
        begun = time.perf_counter()
        for at in range(_BATCHES):
            steps = range(at * _BATCH, (at + 1) * _BATCH)
            self._stream.add(
                [
                    {
                        "kind": "metric",
                        "run": "",
                        "key": "loss",
                        "value": 1.0 / (step + 1),
                        "step": step,
                        "timestamp_ms": 1,
                    }
                    for step in steps
                ]
            )
        if not self._stream.drain(60):
            raise RuntimeError(f"the hub did not take the events: {self._stream.refused}")
        return _BATCH * _BATCHES / (time.perf_counter() - begun)

    def close(self) -> None:
        """The job is over: nobody has to wait for it."""
        self._stream.add([{"kind": "state", "state": "failed", "failure": "lost"}])
        self._stream.drain(10)
        self._stream.close()
        self._ledger.close()
        self._store.close()


def _log_batch_to(server: str) -> Callable[[], float]:
    # Here, since its import takes seconds that the other benches need not wait for.
    from mlflow import MlflowClient  # noqa: PLC0415
    from mlflow.entities import Metric  # noqa: PLC0415

    client = MlflowClient(server)
    run_id = client.create_run(client.create_experiment("log_batch")).info.run_id
    steps = count()

    def one_round() -> float:
        begun = time.perf_counter()
        for _ in range(_REFERENCE_BATCHES):
            client.log_batch(run_id, [Metric("loss", 0.5, 1, next(steps)) for _ in range(_REFERENCE_BATCH)])
        return _REFERENCE_BATCH * _REFERENCE_BATCHES / (time.perf_counter() - begun)

    return one_round
