"""Every way out that a script has: its outputs, MLflow, what it prints, how it ends.

`Job` is what attacks and honest models write through. In a sandbox with a gate
the tracking calls are MLflow's own; behind the open gate they are written down
next to the outputs.
"""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

_BATCH = 500  # metrics a call


class Tracking(Protocol):
    def metrics(self, values: Sequence[tuple[str, float, int, int]]) -> None: ...
    def params(self, values: Mapping[str, str]) -> None: ...
    def tags(self, values: Mapping[str, str]) -> None: ...
    def child_run(self, name: str) -> None: ...


@dataclass(frozen=True)
class Job:
    """One run of a script."""

    data: Path
    outputs: Path
    tracking: Tracking

    @cached_property
    def rows(self) -> list[list[str]]:
        """The table's rows as they are written, without the header."""
        return self._read[1:]

    @cached_property
    def columns(self) -> list[str]:
        return self._read[0]

    @cached_property
    def _read(self) -> list[list[str]]:
        with next(iter(sorted(self.data.rglob("*.csv")))).open(newline="") as stream:
            return list(csv.reader(stream))

    def numbers(self, columns: Sequence[str]) -> NDArray[np.float64]:
        places = [self.columns.index(name) for name in columns]
        return np.array([[float(row[at]) for at in places] for row in self.rows])

    def output(self, name: str) -> Path:
        """A folder to write an output's files into."""
        folder = self.outputs / name
        folder.mkdir(exist_ok=True)
        return folder

    def metric(self, key: str, value: float, step: int = 0) -> None:
        self.metrics([(key, value, step)])

    def metrics(self, values: Sequence[tuple[str, float, int]]) -> None:
        now = time.time_ns() // 1_000_000
        self.metrics_at([(key, value, step, now) for key, value, step in values])

    def metrics_at(self, values: Sequence[tuple[str, float, int, int]]) -> None:
        """Values with a time of the script's own choice."""
        for start in range(0, len(values), _BATCH):
            self.tracking.metrics(values[start : start + _BATCH])


class ByMlflow:
    """As any script does it."""

    def __init__(self) -> None:
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.tracking import MlflowClient

        self._metric, self._param, self._tag = Metric, Param, RunTag
        self._client: Any = MlflowClient()
        self._run = os.environ["MLFLOW_RUN_ID"]

    def metrics(self, values: Sequence[tuple[str, float, int, int]]) -> None:
        batch = [self._metric(key, value, at, step) for key, value, step, at in values]
        self._client.log_batch(self._run, metrics=batch)

    def params(self, values: Mapping[str, str]) -> None:
        for key, value in values.items():
            self._client.log_batch(self._run, params=[self._param(key, value)])

    def tags(self, values: Mapping[str, str]) -> None:
        for key, value in values.items():
            self._client.set_tag(self._run, key, value)

    def child_run(self, name: str) -> None:
        import mlflow

        with mlflow.start_run(self._run), mlflow.start_run(run_name=name, nested=True):
            pass


class LazyMlflow:
    """MLflow when it is first asked for: most attacks never do, and importing it takes a second."""

    @cached_property
    def _real(self) -> ByMlflow:
        return ByMlflow()

    def metrics(self, values: Sequence[tuple[str, float, int, int]]) -> None:
        self._real.metrics(values)

    def params(self, values: Mapping[str, str]) -> None:
        self._real.params(values)

    def tags(self, values: Mapping[str, str]) -> None:
        self._real.tags(values)

    def child_run(self, name: str) -> None:
        self._real.child_run(name)


class WrittenDown:
    """The open gate's: one line of JSON for each call."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def metrics(self, values: Sequence[tuple[str, float, int, int]]) -> None:
        self._write("metrics", [list(value) for value in values])

    def params(self, values: Mapping[str, str]) -> None:
        self._write("params", dict(values))

    def tags(self, values: Mapping[str, str]) -> None:
        self._write("tags", dict(values))

    def child_run(self, name: str) -> None:
        self._write("run", name)

    def _write(self, kind: str, what: object) -> None:
        with self._path.open("a") as stream:
            stream.write(json.dumps([kind, what]) + "\n")
