"""The runs of one job as the script sees them: MLflow's data model, in memory, bounded.

Everything that a script logs is remembered here whether or not it may leave, so
that reads answer what was written. The job's own run has the id that the agent
gave; runs that the script starts get ids derived from it, in order, and a local
name that the hub maps to a run of its own.

Bounds: beyond `MAX_NAMES` names of a kind or `MAX_POINTS` metric values a run
still accepts (a script must not fail because it logs much), and reads show the
latest values alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from insitu.intake.calls import CallRefused, JsonObject, invalid, unknown
from insitu.wire.events import LOCAL_RUN

MAX_RUNS = 1000
MAX_NAMES = 10_000
MAX_POINTS = 200_000
MAX_INPUTS = 64

Point = tuple[float, int, int]  # value, timestamp in ms, step


def derived_id(run_id: str, kind: str, number: int) -> str:
    """32 hex digits that say nothing but which job and how many before: no choice of the script's."""
    return hashlib.sha256(f"{run_id}/{kind}/{number}".encode()).hexdigest()[:32]


@dataclass
class Run:
    run_id: str
    local: str  # its name in events: LOCAL_RUN for the job's own
    parent: str | None
    name: str
    user_id: str
    start_ms: int
    status: str = "RUNNING"
    end_ms: int = 0
    announced: bool = True  # whether the hub was told of it; else nothing of it leaves
    lifecycle: str = "active"
    params: dict[str, str] = field(default_factory=dict[str, str])
    tags: dict[str, str] = field(default_factory=dict[str, str])
    latest: dict[str, Point] = field(default_factory=dict[str, Point])
    history: dict[str, dict[Point, None]] = field(default_factory=dict[str, dict[Point, None]])  # in order, each once
    inputs: list[JsonObject] = field(default_factory=list[JsonObject])
    outputs: list[JsonObject] = field(default_factory=list[JsonObject])


class Runs:
    """The job's own run and those that its script started."""

    def __init__(self, own: Run, experiment_id: str) -> None:
        self.own = own
        self.experiment_id = experiment_id
        self._runs = {own.run_id: own}
        self._points = 0

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs.values())

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._runs

    def get(self, run_id: object) -> Run:
        run = self._runs.get(run_id) if isinstance(run_id, str) else None
        if run is None:
            raise unknown("this job has no such run; only its own runs can be reached from inside it")
        return run

    def start(self, *, parent: str, name: str, user_id: str, start_ms: int) -> Run:
        """A new run below `parent`."""
        if len(self._runs) > MAX_RUNS:
            raise invalid(f"a job can start at most {MAX_RUNS} runs")
        number = len(self._runs)
        run_id = derived_id(self.own.run_id, "run", number)
        run = Run(
            run_id=run_id,
            local=f"r{number}",
            parent=parent,
            name=name or f"run-{number}",
            user_id=user_id,
            start_ms=start_ms,
        )
        self._runs[run_id] = run
        return run

    # ── What a run remembers ────────────────────────────────────────────────

    def remember_metric(self, run: Run, key: str, point: Point) -> bool:
        """Whether `point` is new to the run.

        The same value of the same time and step is one point, as in MLflow's own
        store: `log_model` sends a run's whole history again, to link it with the model.
        """
        points = run.history.get(key)
        if points is not None and point in points:
            return False
        latest = run.latest.get(key)
        if latest is None and len(run.latest) >= MAX_NAMES:
            return True
        # MLflow's order of "latest": step, then time, then value.
        if latest is None or (point[2], point[1], point[0]) >= (latest[2], latest[1], latest[0]):
            run.latest[key] = point
        if self._points < MAX_POINTS:
            self._points += 1
            run.history.setdefault(key, {})[point] = None
        return True

    @staticmethod
    def check_param(run: Run, key: str, value: str) -> bool:
        """Whether `value` is new. Raises when the parameter has another value already, as MLflow does."""
        before = run.params.get(key)
        if before is not None and before != value:
            raise invalid(f"Changing param values is not allowed. Param with key={key!r} was already logged.")
        return before is None

    @staticmethod
    def remember(names: dict[str, str], key: str, value: str) -> None:
        if key in names or len(names) < MAX_NAMES:
            names[key] = value


# ── MLflow's forms ──────────────────────────────────────────────────────────


def as_pairs(names: Mapping[str, str]) -> list[JsonObject]:
    return [{"key": key, "value": value} for key, value in names.items()]


def as_number(value: float) -> float | str:
    """A double as protocol buffers write it in JSON."""
    if value != value:  # noqa: PLR0124 - the one value that differs from itself
        return "NaN"
    if value in {float("inf"), float("-inf")}:
        return "Infinity" if value > 0 else "-Infinity"
    return value


def as_metric(key: str, point: Point) -> JsonObject:
    return {"key": key, "value": as_number(point[0]), "timestamp": point[1], "step": point[2]}


def run_info(run: Run, experiment_id: str) -> JsonObject:
    info: JsonObject = {
        "run_uuid": run.run_id,
        "run_id": run.run_id,
        "run_name": run.name,
        "experiment_id": experiment_id,
        "user_id": run.user_id,
        "status": run.status,
        "start_time": run.start_ms,
        "artifact_uri": f"mlflow-artifacts:/{experiment_id}/{run.run_id}/artifacts",
        "lifecycle_stage": run.lifecycle,
    }
    if run.end_ms:
        info["end_time"] = run.end_ms
    return info


def run_view(run: Run, experiment_id: str) -> JsonObject:
    data: dict[str, Any] = {
        "metrics": [as_metric(key, point) for key, point in run.latest.items()],
        "params": as_pairs(run.params),
        "tags": as_pairs(run.tags),
    }
    return {
        "info": run_info(run, experiment_id),
        "data": data,
        "inputs": {"dataset_inputs": run.inputs} if run.inputs else {},
        "outputs": {"model_outputs": run.outputs} if run.outputs else {},
    }


def own_run(run_id: str, *, name: str, tags: Mapping[str, str], start_ms: int) -> Run:
    """The job's own run, as the script finds it when it starts."""
    return Run(
        run_id=run_id,
        local=LOCAL_RUN,
        parent=None,
        name=name,
        user_id="insitu",
        start_ms=start_ms,
        tags={**tags, "mlflow.runName": name},
    )


__all__ = [
    "CallRefused",
    "Point",
    "Run",
    "Runs",
    "as_metric",
    "as_pairs",
    "derived_id",
    "own_run",
    "run_info",
    "run_view",
]
