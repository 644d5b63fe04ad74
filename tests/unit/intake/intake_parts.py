"""An intake without sockets: scripted rules, a clock that stands still, a folder."""

import json
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from insitu.intake.request import IntakeRequest
from insitu.intake.rules import LinesLeave, MetricLeaves, Stays
from insitu.intake.session import Intake
from insitu.wire.events import Event

OWN = "a" * 32
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
EVENT = TypeAdapter(Event)


class ScriptedRules:
    """Lets out what doesn't begin with `secret`; rounds metrics to two digits; joins lines after `hold:`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self._held: list[str] = []

    def metric(self, key, value, step, at, *, run):
        self.asked.append(("metric", key))
        return Stays("not-declared") if key.startswith("secret") else MetricLeaves(float(f"{value:.2g}"), step)

    def param(self, key, value, at):
        self.asked.append(("param", key))
        return Stays("known-data") if "secret" in key + value else value

    def tag(self, key, value, at):
        self.asked.append(("tag", key))
        return Stays("known-data") if "secret" in key + value else value

    def name(self, text, at):
        return Stays("known-data") if "secret" in text else text

    def lines(self, stream, texts, at):
        self._held += [text for text in texts if text.startswith("hold:")]
        secret = sum("secret" in text for text in texts)
        left = [text for text in texts if "secret" not in text and not text.startswith("hold:")]
        return LinesLeave(left, {"known-data": secret} if secret else {})

    def end(self, stream, at):
        held, self._held = self._held, []
        return LinesLeave((f"{len(held)} held",) if held else (), {"end": len(held)} if held else {})


def a_request(folder: Path, **changes) -> IntakeRequest:
    fields = {
        "job_id": "j-1",
        "attempt": 1,
        "run_id": OWN,
        "experiment_id": "1",
        "experiment_name": "breast-cancer",
        "policy": "",
        "contract": {
            "metrics": ["*"],
            "outputs": [
                {"name": "model", "type": "mlflow_model", "register": "wdbc", "max_bytes": None},
                {"name": "table", "type": "uri_file", "register": None, "max_bytes": None},
                {"name": "report", "type": "uri_folder", "register": None, "max_bytes": None},
            ],
        },
        "socket": str(folder / "gate.sock"),
        "control": str(folder / "control.sock"),
        "state_dir": str(folder),
        **changes,
    }
    return IntakeRequest.model_validate_json(json.dumps(fields))


class Job:
    """Speaks MLflow's REST to an intake as its client does, and reads what may leave."""

    def __init__(self, folder: Path, **changes) -> None:
        self.folder = folder
        self.rules = ScriptedRules()
        self.grown: list[int] = []
        self.intake = Intake(a_request(folder, **changes), self.rules, clock=lambda: NOW, on_growth=self.grown.append)

    def call(self, method: str, path: str, body: dict | None = None, *, status: int = 200) -> dict:
        target = path if path.startswith("/") else f"/api/2.0/mlflow/{path}"
        response = self.intake.api.handle(method, target, json.dumps(body).encode() if body is not None else b"")
        self.intake.api.settle()
        assert response.status == status, response.body
        return json.loads(response.body)

    def put(self, path: str, data: bytes, *, owner: str = OWN) -> None:
        upload = self.intake.artifacts.upload(f"1/{owner}/artifacts/{path}")
        upload.write(data)
        upload.commit()

    def log_model(self, name: str, *, status: str = "LOGGED_MODEL_READY") -> str:
        model = self.call("POST", "logged-models", {"name": name, "source_run_id": OWN})["model"]["info"]["model_id"]
        self.put("MLmodel", b"flavors: {}", owner=f"models/{model}")
        self.call("PATCH", f"logged-models/{model}", {"model_id": model, "status": status})
        return model

    def events(self) -> list:
        lines = (self.folder / "events.jsonl").read_bytes().splitlines()
        events = [EVENT.validate_json(line) for line in lines]
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        return events

    def of_kind(self, kind: str) -> list:
        return [event for event in self.events() if event.kind == kind]

    def finish(self) -> tuple[dict, dict]:
        self.intake.finish("test")
        return tuple(json.loads((self.folder / name).read_text()) for name in ("artifacts.json", "summary.json"))
