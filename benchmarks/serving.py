"""Predictions a second for single rows, of the serving process that images carry.

The same model (StandardScaler and LogisticRegression, saved with skops) and the same
request to all: ours, `mlflow models serve`, and a bare ASGI app on uvicorn. One core
has the load, the other the server, where there are two.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import Goal, Row, percentile
from benchmarks.load import Answered, load
from benchmarks.programs import ended_by_pid, free_port
from benchmarks.scene import Scene, wait_until_it_answers

_ROUNDS = 5
_FOR_S = 1.5
_BARE = ("--loop", "uvloop", "--http", "httptools", "--lifespan", "off", "--no-access-log", "--log-level", "warning")


def measure(scene: Scene) -> Iterator[Row]:
    folder = scene.fresh_folder("serving")
    body = _save_model(folder / "model")
    python, model = [sys.executable, "-m"], str(folder / "model")
    ports = {name: free_port() for name in ("ours", "mlflow", "echo")}
    at = {name: ["--host", "127.0.0.1", "--port", str(port)] for name, port in ports.items()}
    mlflow_serves = ["models", "serve", "--model-uri", model, "--env-manager", "local", "--workers", "1"]
    servers = {
        "ours": [*python, "insitu.serving", "--model", model, "--name", "bench", *at["ours"]],
        "mlflow": [*python, "mlflow", *mlflow_serves, *at["mlflow"]],
        "echo": [*python, "uvicorn", "benchmarks.echo:app", *_BARE, *at["echo"]],
    }
    for name, command in servers.items():
        _start(scene, command, folder / f"{name}.log", ports[name])
    found: dict[str, list[Answered]] = {name: [] for name in ports}
    for number in range(scene.rounds(_ROUNDS) + 1):
        for name, port in ports.items():
            answered = load(port, "/invocations", body, for_s=_FOR_S)
            if number:  # the first is to get warm
                found[name].append(answered)
    rate = {name: tuple(one.per_s for one in rounds) for name, rounds in found.items()}
    p99 = {name: tuple(1000 * percentile(one.latencies_s, 0.99) for one in rounds) for name, rounds in found.items()}
    yield Row("predictions", "1/s", rate["ours"], "mlflow models serve", rate["mlflow"], Goal(at_least=5.0))
    yield Row("predictions", "1/s", rate["ours"], "a bare ASGI app on uvicorn", rate["echo"])
    yield Row("… p99 of an answer", "ms", p99["ours"], "a bare ASGI app on uvicorn", p99["echo"], Goal(at_most=5.0))
    yield Row("… p99 of an answer", "ms", p99["ours"], "mlflow models serve", p99["mlflow"])


def _start(scene: Scene, command: Sequence[str], log: Path, port: int) -> None:
    # MLflow starts uvicorn by its name.
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = scene.enter(ended_by_pid(command, log=log, environment=environment))
    wait_until_it_answers(f"http://127.0.0.1:{port}/ping", process, log, timeout_s=120)


def _save_model(folder: Path) -> bytes:
    """Save a model; returns a request for one row."""
    # Here, since their import takes seconds that the other benches need not wait for.
    from mlflow.models import infer_signature  # noqa: PLC0415
    from mlflow.sklearn import save_model  # noqa: PLC0415
    from sklearn.datasets import load_breast_cancer  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    data: Any = load_breast_cancer(as_frame=True)
    table, labels = data.data, data.target
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(table, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signature = infer_signature(table, model.predict(table))
        save_model(model, str(folder), signature=signature, serialization_format="skops", pip_requirements=[])
    row = {"columns": list(table.columns), "data": [table.iloc[0].tolist()]}
    return json.dumps({"dataframe_split": row}).encode()
