"""`mlflow.log_metric` as a job calls it, through the gate, against the same calls to `mlflow server`.

The same script with the same client, packages and interpreter runs both times:
once as a job at a site (sandbox and gate; agent and hub carry on beside it), once in a bare sandbox that shares the network, against `mlflow server`
over SQLite with one worker. What the client itself computes for a call is the
limit that neither can pass, so it is the second reference. After its imports the
client's interpreter once looks through all of its objects, for as long as forty
calls take; the script has that done before the clock starts, since it would fall
among the calls of one side and not of the other.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Goal, Row
from benchmarks.scene import WITH_MLFLOW, Scene, bare_bwrap
from insitu.sdk.submit import PreparedJob
from tests.rig import World

_ROUNDS = 5
_CALLS = 1000
"""A second: in its first half the site also starts the gate's process that waits for the next job."""

SCRIPT = f"""
import gc, json, time
import mlflow

with mlflow.start_run():
    for step in range(20):
        mlflow.log_metric("training_loss", 1.0, step=step)
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    for step in range({_CALLS}):
        mlflow.log_metric("training_loss", 1.0 / (step + 1), step=20 + step)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps({{"wall_ms": round(1000 * wall), "cpu_ms": round(1000 * cpu)}}))
"""


@dataclass(frozen=True)
class _Round:
    """Of all calls together, in milliseconds; the client's own processor time is of all its threads."""

    wall_ms: float
    cpu_ms: float

    @property
    def calls_per_s(self) -> float:
        return 1000 * _CALLS / self.wall_ms


def measure(scene: Scene) -> Iterator[Row]:
    world = scene.world()
    folder = world.job_folder(SCRIPT, requirements=WITH_MLFLOW)
    prepared = world.alice.prepare(folder / "job.yaml")
    server = scene.mlflow_server
    tree = scene.environment(WITH_MLFLOW).tree
    _in_a_job(world, prepared)  # which puts the environment ready at the site
    pairs = [
        (_in_a_job(world, prepared), _against_the_server(scene, tree, folder, server))
        for _ in range(scene.rounds(_ROUNDS))
    ]
    ours, theirs = [one for one, _ in pairs], [other for _, other in pairs]
    yield Row(
        "mlflow.log_metric in a job",
        "calls/s",
        tuple(one.calls_per_s for one in ours),
        "mlflow server",
        tuple(one.calls_per_s for one in theirs),
        Goal(at_least=4.0),
    )
    yield Row(
        "… time of a call",
        "ms",
        tuple(one.wall_ms / _CALLS for one in ours),
        "the client's own processor time",
        tuple(one.cpu_ms / _CALLS for one in ours),
        Goal(at_most=1.2),
    )
    yield Row(
        "… the client's processor time of a call",
        "ms",
        tuple(one.cpu_ms / _CALLS for one in ours),
        "with mlflow server",
        tuple(one.cpu_ms / _CALLS for one in theirs),
    )


def _in_a_job(world: World, prepared: PreparedJob) -> _Round:
    job = world.alice.submit(prepared)
    job = world.alice.wait(job.id, timeout_s=120)
    said = world.log_text(job.id)
    if job.state != "succeeded":
        raise RuntimeError(f"{job.id} is {job.state}: {said[-1000:]}")
    return _read(said)


def _against_the_server(scene: Scene, tree: Path, folder: Path, server: str) -> _Round:
    settings = {
        "MLFLOW_TRACKING_URI": server,
        "MLFLOW_EXPERIMENT_NAME": "bench",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        "PATH": "/opt/env/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    more = ["--share-net", "--tmpfs", "/tmp", "--ro-bind", str(folder), "/job", "--chdir", "/job", "--clearenv"]
    for name, value in settings.items():
        more += ["--setenv", name, value]
    command = bare_bwrap(scene.base, tree, ["/opt/env/bin/python", "train.py"], *more)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(f"the script failed against mlflow server: {done.stderr[-1000:]}")
    return _read(done.stdout)


def _read(said: str) -> _Round:
    line = next(line for line in said.splitlines() if line.startswith('{"wall_ms"'))
    return _Round(**json.loads(line))
