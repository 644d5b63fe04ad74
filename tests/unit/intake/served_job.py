"""A real intake process, and what stands around it in a sandbox: a forwarder from TCP, and the keeper's pipes."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from pydantic import TypeAdapter

from insitu.intake.client import EventReader, IntakeHandle, IntakePool
from insitu.wire.events import Event

RUN = "ab" * 16
WAIT_S = 20
EVENT = TypeAdapter(Event)
POLICY = """
version: 1
signers: {}
release:
  metrics: {digits: 4, max_count: 10000, per_second: 10000}
  params: {max_bytes: 64kB}
  logs: {mode: scanned, max_bytes: 256kB}
  errors: type-and-frames
budget: {per_job: 5MB, per_dataset_per_month: 100MB, per_submitter_per_month: 50MB}
"""
ENVIRONMENT = {"PATH": os.environ.get("PATH", ""), "PYTHONDONTWRITEBYTECODE": "1"}


def a_pool(size: int = 0) -> IntakePool:
    return IntakePool(size, lambda: [sys.executable, "-m", "insitu.intake"], env=ENVIRONMENT, policy=POLICY)


def a_request(folder: Path, **changes) -> dict:
    return {
        "job_id": "j-1",
        "attempt": 1,
        "run_id": RUN,
        "experiment_id": "1",
        "experiment_name": "breast-cancer",
        "policy": POLICY,
        "contract": {
            "metrics": ["training_*", "auc", "loss"],
            "outputs": [{"name": "model", "type": "mlflow_model", "register": "wdbc", "max_bytes": None}],
        },
        "index_dirs": [],
        "socket": str(folder / "gate.sock"),
        "control": str(folder / "control.sock"),
        "state_dir": str(folder),
        **changes,
    }


class ServedJob:
    """One job at its intake."""

    def __init__(self, folder: Path, handle: IntakeHandle) -> None:
        self.folder = folder
        self.handle = handle

    def http(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.connect(str(self.folder / "gate.sock"))  # waits its turn, which it would not with a time limit
        connection.sock.settimeout(WAIT_S)
        return connection

    def post(self, path: str, body: dict) -> tuple[int, dict]:
        with contextlib.closing(self.http()) as connection:
            connection.request("POST", f"/api/2.0/mlflow/{path}", json.dumps(body).encode())
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    @staticmethod
    def settled(connection) -> None:
        """Returns when all calls that were answered before are decided: before that, no further one is answered."""
        connection.request("GET", "/health")
        assert connection.getresponse().read() == b"OK"

    def log_metric(self, value: float, *, key: str = "auc", step: int = 0) -> None:
        body = {"run_id": RUN, "key": key, "value": value, "timestamp": 1, "step": step}
        assert self.post("runs/log-metric", body)[0] == 200

    def give_streams(self) -> tuple[int, int]:
        return self.give_streams_in(self.folder)

    @staticmethod
    def give_streams_in(folder: Path) -> tuple[int, int]:
        """Hand over pipes as the sandbox's keeper does; the ends that a job writes to."""
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as keeper:
            keeper.connect(str(folder / "control.sock"))
            socket.send_fds(keeper, [b"streams"], [out_read, err_read])
        os.close(out_read)
        os.close(err_read)
        return out_write, err_write

    def events(self) -> list:
        lines, _ = EventReader(self.folder / "events.jsonl").read()
        return [EVENT.validate_json(line) for line in lines]

    def of_kind(self, kind: str) -> list:
        return [event for event in self.events() if event.kind == kind]

    def document(self, name: str) -> dict:
        return json.loads((self.folder / name).read_text())


class Forwarder:
    """127.0.0.1:<port> → the job's socket, as inside a sandbox. The MLflow client knows no unix sockets."""

    def __init__(self, target: Path) -> None:
        self._target = str(target)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(timeout=WAIT_S)

    def _accept(self) -> None:
        while True:
            try:
                outer, _ = self._listener.accept()
            except OSError:
                return
            outer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            inner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            inner.connect(self._target)
            thread = threading.Thread(target=self._both_ways, args=(outer, inner), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _both_ways(self, outer: socket.socket, inner: socket.socket) -> None:
        back = threading.Thread(target=_pump, args=(inner, outer), daemon=True)
        back.start()
        _pump(outer, inner)
        back.join()
        outer.close()
        inner.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(64 << 10):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def run_script(job: ServedJob, script: Path) -> int:
    """Run a data scientist's script as a sandbox would, with the real MLflow client; its exit code."""
    forwarder = Forwarder(job.folder / "gate.sock")
    stdout, stderr = job.give_streams()
    environment = {
        **ENVIRONMENT,
        "HOME": str(script.parent),
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{forwarder.port}",
        "MLFLOW_RUN_ID": RUN,
        "MLFLOW_EXPERIMENT_NAME": "breast-cancer",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    try:
        process = subprocess.Popen(
            [sys.executable, str(script)], cwd=script.parent, env=environment, stdout=stdout, stderr=stderr
        )
        os.close(stdout)
        os.close(stderr)
        return process.wait(timeout=300)
    finally:
        forwarder.close()
