"""Real jobs through the real gate: a hub, a site with the two datasets, an agent, a sandbox for each job.

What a job let out is read from what the hub has: its events in the order of
arrival, and the files of its releases. Nothing of the site is asked.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from benchmarks.leaks.cases import FOLDER, Case, attacks, honest_models
from benchmarks.leaks.let_out import Decided, LetOut, Metric
from benchmarks.leaks.policy import BUDGET, DATASETS, as_one_line, release
from insitu.agent.catalogue import add_dataset
from insitu.agent.settings import AgentSettings
from insitu.wire.people import JobView
from insitu.wire.run_envelopes import AllowedDataset, AllowedOutput, OneOf, RunEnvelopeDocument, sign_run_envelope
from tests.rig import World

_JOB_S = 400.0
_COMMAND = "python -m benchmarks.leaks.inside.play ${{inputs.module}} ${{inputs.variant}} ${{inputs.run}}"
_APPROVED = "round-1"
_IN_CODE = ("__init__.py", "people.py", "let_out.py", "inside", "attacks", "honest")


@dataclass
class RealGate:
    """Takes jobs while `world` runs."""

    world: World
    folder: Path
    requirements: str

    def __post_init__(self) -> None:
        lay_out_code(self.folder / "code", self.requirements)
        for case in [*attacks(), *honest_models()]:
            (self.folder / f"{case.path}.yaml").write_text(yaml.safe_dump(job_document(case)))

    def open_site(self, data: Mapping[str, Path]) -> None:
        """Add the datasets, and let the agent start with the bench's policy."""
        world = self.world
        world.stop_agent()
        gid = AgentSettings(hub="http://127.0.0.1").gate_gid
        for name, folder in data.items():
            shutil.copytree(folder, world.folder / "data" / name)
            add_dataset(world.site, name, datastore="private", pattern=f"{name}/*.csv", gate_gid=gid)
        world.write_policy(release=as_one_line(release()), datasets=DATASETS, budget=BUDGET)
        world.start_agent()
        world.wait_until(lambda: {"people", "digits"} <= {one.name for one in world.alice.datasets()})

    def submit(self, case: Case, variant: str, run: int = 0, *, inside: bool = True) -> JobView:
        """Submit a case's job, `inside` the run envelope or not, and wait until it is final or held."""
        path = self.folder / f"{case.path}.yaml"
        changes = {
            "inputs.variant": str(case.variants.index(variant)),
            "inputs.run": str(run),
            "inputs.approved": _APPROVED if inside else "round-2",
        }
        job = self.world.alice.submit(path, changes=changes)
        return self.world.alice.wait(job.id, timeout_s=_JOB_S)

    def play(self, case: Case, variant: str, run: int = 0, *, inside: bool = True) -> tuple[LetOut, JobView]:
        job = self.submit(case, variant, run, inside=inside)
        return self.let_out(job), job

    def approve(self, job: JobView, cases: Sequence[Case]) -> None:
        """A steward's run envelopes over all of `cases`, one a dataset, from a job that ran: same code, same packages."""
        draft = RunEnvelopeDocument.model_validate(self.world.console("envelope_draft", job=job.id))
        outputs = {name: kind for case in cases for name, kind in case.outputs.items()}
        most = max(len(case.variants) for case in cases)
        runs = max(case.runs(variant) for case in cases for variant in case.variants)
        document = draft.model_copy(
            update={
                "title": "everything that the bench tries",
                "params": {
                    "module": OneOf(values=sorted({case.path for case in cases})),
                    "variant": OneOf(values=list(range(most))),
                    "run": OneOf(values=list(range(runs))),
                    "approved": OneOf(values=[_APPROVED]),  # by nothing else do jobs inside and outside differ
                },
                "outputs": {name: AllowedOutput.model_validate({"type": kind}) for name, kind in outputs.items()},
                "metrics": sorted({name for case in cases for name in case.metrics}),
                "runs": 100_000,
            }
        )
        for dataset in sorted({case.dataset for case in cases}):
            allowed = {"table": AllowedDataset(name=dataset, versions=[1])}
            sealed = sign_run_envelope(document.model_copy(update={"datasets": allowed}), self.world.keys["jo"])
            self.world.console("envelope_add", envelope=sealed.model_dump(mode="json"))

    def ceiling_of(self, job: JobView) -> int:
        """The bytes that the ledger says this job's releases could carry beyond what the policy asked for."""
        return sum(entry.get("ceiling_bytes", 0) for entry in self._entries(job) if entry["kind"] == "file")

    def streamed_by(self, job: JobView) -> int:
        """The bytes of everything else of this job, as the ledger counts them."""
        return sum(entry["size_bytes"] for entry in self._entries(job) if entry["kind"] != "file")

    def _entries(self, job: JobView) -> list[dict[str, Any]]:
        lines = self.world.site.ledger.read_bytes().splitlines()
        return [entry for entry in map(json.loads, lines) if entry.get("job_id") == job.id]

    # -- what the hub has ----------------------------------------------------------------------------------------------

    def let_out(self, job: JobView) -> LetOut:
        let_out = LetOut(state=job.state.value)
        times: dict[str, datetime] = {}
        for event in self._events(job.id):
            _take(event, let_out)
            if event["kind"] == "state":
                times.setdefault(event["state"], datetime.fromisoformat(event["at"]))
        ended = next((at for state, at in times.items() if state not in {"assigned", "preparing", "running"}), None)
        if ended is not None and "running" in times:
            let_out.seconds = (ended - times["running"]).total_seconds()
        for output, decided in let_out.decided.items():
            if decided.verdict == "released":
                let_out.files[output] = self._files(job.id, output)
        return let_out

    def _events(self, job_id: str) -> list[dict[str, Any]]:
        with closing(
            sqlite3.connect(f"file:{self.world.folder / 'hub' / 'hub.sqlite3'}?mode=ro", uri=True)
        ) as database:
            asked = "select payload from job_events where job_id = ? order by first_cursor"
            return [event for (payload,) in database.execute(asked, (job_id,)) for event in json.loads(payload)]

    def _files(self, job_id: str, output: str) -> dict[str, bytes]:
        http = self.world.alice._http._http
        at = f"/api/v1/jobs/{job_id}/outputs/{output}/files"
        listed = http.get(at)
        if listed.is_error:
            return {}  # decided, and not sent
        return {one["path"]: http.get(f"{at}/{one['path']}").content for one in listed.json()["items"]}


def _take(event: dict[str, Any], let_out: LetOut) -> None:
    """One event as the hub keeps it. What is of no known kind counts as words: it got out all the same."""
    match event["kind"]:
        case "metric":
            let_out.metrics.append(
                Metric(event["key"], float(event["value"]), event.get("step", 0), event.get("timestamp_ms", 0))
            )
        case "param":
            let_out.params[event["key"]] = event["value"]
        case "tag":
            let_out.tags[event["key"]] = event["value"]
        case "log":
            let_out.lines.append(event["text"])
        case "run":
            let_out.words.append(event.get("name", ""))
        case "kept":
            let_out.kept[event["what"]] = let_out.kept.get(event["what"], 0) + event["count"]
        case "decision":
            known = {name: event.get(name, "") for name in ("verdict", "rule", "measure", "limit")}
            let_out.decided[event["output"]] = Decided(**known, size_bytes=event.get("size_bytes", 0))
            let_out.words.append(json.dumps(event.get("findings", [])))
        case _:
            let_out.words.append(json.dumps({key: value for key, value in event.items() if key not in {"seq", "at"}}))
            _exit_code(event, let_out)


def _exit_code(event: dict[str, Any], let_out: LetOut) -> None:
    """Of a signal only the sentence tells."""
    if event.get("exit_code") is not None:
        let_out.exit_code = event["exit_code"]
    before, found, number = str(event.get("what", "")).partition("ended with signal ")
    if found and before and number.isdigit():
        let_out.exit_code = -int(number)


def job_document(case: Case) -> dict[str, Any]:
    return {
        "type": "command",
        "display_name": "leakbench",
        "experiment_name": "leakbench",
        "compute": "leeds",
        "code": "code",
        "command": _COMMAND,
        "environment": {"requirements": "requirements.txt"},
        "inputs": {
            "table": {"type": "dataset", "dataset": f"{case.dataset}@1", "mode": "ro_mount"},
            "module": case.path,
            "variant": 0,
            "run": 0,
            "approved": _APPROVED,
        },
        "outputs": {name: _output(case, name) for name in case.outputs},
        "metrics": list(case.metrics),
        "resources": {"cpus": 1, "memory": "2GiB"},
        "limits": {"timeout": "5m"},
        "tags": {"purpose": "research"},
    }


def _output(case: Case, name: str) -> dict[str, str]:
    asked_with = case.predict(name)
    return {"type": case.outputs[name]} | ({"predict": asked_with} if asked_with else {})


def lay_out_code(folder: Path, requirements: str) -> None:
    """The code folder of every job: attacks, honest models and what they share, as they lie here."""
    target = folder / "benchmarks" / "leaks"
    target.mkdir(parents=True)
    (folder / "requirements.txt").write_text(requirements)
    (folder / "benchmarks" / "__init__.py").write_text("")
    for name in _IN_CODE:
        source = FOLDER / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target / name)
