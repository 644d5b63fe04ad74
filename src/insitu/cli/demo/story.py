"""The story, step by step. Each step checks what it claims, from where its reader would look.

What the data scientist is told comes from the hub; what left the site comes from the
site's ledger. A step that finds something else than it claims raises, and the demo
ends with an error: its exit code is a proof of the whole.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
from rich.text import Text

from insitu.cli.demo.places import example
from insitu.cli.demo.stage import Stage
from insitu.cli.demo.table import FEATURES, Wdbc
from insitu.cli.demo.telling import Step, Telling
from insitu.cli.ledger import describe
from insitu.cli.output import number, printable, short
from insitu.domain.errors import InsituError, UnavailableError
from insitu.domain.jobs import JobState
from insitu.domain.quantities import format_bytes
from insitu.sdk.client import Client
from insitu.sdk.job_events import JobEvent
from insitu.sdk.submit import PreparedJob
from insitu.wire.ledger import verify
from insitu.wire.people import DeploymentView, ImageView, JobView, ModelVersionView, OutputView

Found = TypeVar("Found")

MODEL = "breast-cancer"
DEPLOYMENT = "screening"
_LABELS = ("benign", "malignant")
_LINEAGE = ("site", "code", "lock", "base", "policy_version", "ledger_entry", "datasets")
_SOON_S = 60.0
_LOOK_S = 0.05


class StoryError(InsituError):
    """The demo saw something else than what Insitu promises."""

    default_code = "demo-failed"


@dataclass
class Facts:
    """What the steps found; the demo's JSON is made of it."""

    datastore: str = ""
    job: JobView | None = None
    held: JobView | None = None
    finding: OutputView | None = None
    model: ModelVersionView | None = None
    image: ImageView | None = None
    deployment: DeploymentView | None = None
    predictions: list[dict[str, Any]] = field(default_factory=list)
    egress: list[dict[str, Any]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)  # the ledger's own, for people
    ledger: dict[str, Any] = field(default_factory=dict)


class Story:
    """One run of the demo on a stage."""

    def __init__(self, stage: Stage, table: Wdbc, telling: Telling) -> None:
        self._stage, self._table, self._telling = stage, table, telling
        self.facts = Facts()

    def play(self) -> None:
        """All of it, in order.

        Raises:
            StoryError: something was not as it is promised.
            InsituError: something could not be done.
        """
        steps: tuple[tuple[str, str, Callable[[Step], None]], ...] = (
            ("start", "starting a hub and a site", self.start),
            ("data", "adding a private dataset and a policy", self.add_data),
            ("train", "training beside the data", self.train),
            ("model", "registering what passed the gate", self.register),
            ("held", "trying a model that stores its training rows", self.hold),
            ("image", "building an image", self.build_image),
            ("deploy", "deploying it at the site", self.deploy),
            ("predict", "asking it", self.predict),
            ("ledger", "reading the record of what left", self.read_ledger),
        )
        for name, doing, play in steps:
            with self._telling.step(name, doing) as step:
                play(step)
            self._stage.processes.check_alive()

    # 0. Two processes, joined by a one-time token.

    def start(self, step: Step) -> None:
        stage = self._stage
        stage.start_hub(step.now)
        stage.start_site(step.now)
        where = f", registry at {stage.registry}" if stage.registry else ", no registry installed"
        step.say(f"a hub and a site, {stage.site}, which dialled out to it")
        step.add(f"hub {stage.hub_url}{where}; jobs run in {stage.chosen_sandbox}")

    # 1. The hub learns a name, a schema and a band of rows.

    def add_data(self, step: Step) -> None:
        stage, steward = self._stage, self._stage.people.steward
        self._table.write(stage.places.private / "wdbc" / "wdbc.csv")
        bases = until(lambda: steward.site(stage.site).bases, "the hub hears of the site's base")
        stage.write_policy(bases[0].digest)
        self.facts.datastore = stage.add_datastore()
        stage.upload(stage.places.private / "wdbc")
        checked = stage.ask_site("datastore_check", name="private")
        check(checked["state"] == "ok", "the site's store can't be read")
        step.now("indexing the table, so that the gate knows its rows")
        added = stage.ask_site(
            "data_add",
            name="wdbc",
            datastore="private",
            path="wdbc/*.csv",
            format="csv",
            description="nuclei, and the biopsy",
        )
        seen = until(
            lambda: next((one for one in steward.datasets() if one.site == stage.site), None),
            "the hub sees the dataset",
        )
        until(lambda: steward.site(stage.site).policy_version == 2, "the hub hears of the policy's version")
        told = seen.model_dump_json()
        hidden = stage.blobs.endpoint if stage.blobs else str(stage.places.private)
        check(hidden not in told and "wdbc.csv" not in told, "the hub was told a path of the data")
        check(seen.rows != str(added["rows"]), "the hub was told the number of rows")
        step.say("the steward adds dataset wdbc, and a policy")
        if stage.blobs:
            step.add(f"its data lies in {self.facts.datastore}, whose key the site alone has")
        step.add(f"the hub sees wdbc@{seen.version}, {len(seen.columns)} columns, {seen.rows} rows; no path, no row")

    # 2, 3. An ordinary script, signed, sealed off; its metrics arrive while it runs.

    def train(self, step: Step) -> None:
        scientist = self._stage.people.data_scientist
        step.now("locking the job's packages")
        prepared = self._prepare({}, step)
        seen = self._run(scientist, prepared, step)
        job = seen.job
        if job.state is not JobState.SUCCEEDED:
            raise _unexpected(job, "succeeded")
        check(seen.metric_while_running, "no metric arrived while the job ran")
        check(seen.line_while_running, "no log line arrived while the job ran")
        check("auc" in job.metrics and any(key.startswith("training_") for key in job.metrics), "metrics are missing")
        self.facts.job = job
        step.say(f"{job.id} trained at the site, sealed off, and was watched live")
        for line in seen.lines[-2:]:
            step.add(f"│ {line}")
        metrics = ", ".join(
            f"{key} {number(job.metrics[key])}" for key in ("auc", "training_log_loss", "training_accuracy")
        )
        kept = sum(job.kept.values())
        step.add(f"{metrics}" + (f"; at least {kept} things that nobody declared stayed at the site" if kept else ""))

    # 4. What passed the gate becomes version 1, with its lineage.

    def register(self, step: Step) -> None:
        engineer, job = self._stage.people.ml_engineer, _there(self.facts.job)
        found = until(
            lambda: _registered(engineer.job(job.id)), "the released model is registered", seconds=_SOON_S * 2
        )
        check(found.verdict == "released", f"the model was {found.verdict}, not released")
        check(found.model_version == 1, f"the model became version {found.model_version}, not 1")
        engineer.alias_model(MODEL, "champion", 1)
        model = engineer.tag_model(MODEL, 1, "reviewed", "no")
        missing = [name for name in _LINEAGE if f"insitu.{name}" not in model.tags]
        check(not missing, f"the model's lineage lacks {', '.join(missing)}")
        check(model.job_id == job.id and "champion" in model.aliases, "the model is not that job's champion")
        self.facts.model = model
        step.say(f"{MODEL} version 1, alias champion: it passed the gate")
        step.add(f"{short(model.digest)}, {format_bytes(model.size_bytes)}; from {model.tags['insitu.datasets'][:30]}…")

    # 5. The same script with another estimator, which stores the rows it learned from.

    def hold(self, step: Step) -> None:
        scientist = self._stage.people.data_scientist
        seen = self._run(scientist, self._prepare({"inputs.estimator": "knn"}, step), step)
        if seen.job.state is not JobState.HELD:
            raise _unexpected(seen.job, "held")
        output = next((one for one in seen.job.outputs if one.verdict == "held"), None)
        if output is None:
            raise StoryError("the hub shows no held output")
        rows = [int(count) for count in re.findall(r"\d+", output.measure)]
        check("row" in output.rule and bool(rows) and rows[0] > 0, f"held by {output.rule} ({output.measure})")
        check(bool(output.hint), "the finding has no hint")
        versions = scientist.model_versions(MODEL)
        check([one.version for one in versions] == [1], "a second version was registered")
        self.facts.held, self.facts.finding = seen.job, output
        step.say("the same script with k nearest neighbours: held at the site")
        step.add(Text.assemble(("held ", "yellow"), f"{output.rule}: {output.measure} (limit: {output.limit})"))
        step.add(f"hint: {output.hint}")

    # 6. An image, without a daemon.

    def build_image(self, step: Step) -> None:
        stage, engineer, model = self._stage, self._stage.people.ml_engineer, _there(self.facts.model)
        image = engineer.build_image(model.name, model.version)
        image = engineer.wait_image(image.id, timeout_s=300)
        check(image.state == "ready", f"the image is {image.state}: {image.reason.what} {image.reason.hint}")
        check(image.pushed or stage.registry is None, "the image was not pushed")
        if stage.registry is not None:
            _check_in_registry(stage.registry, image)
        self.facts.image = image
        where = "pushed to the registry" if image.pushed else "in an OCI layout"
        step.say(f"an OCI image of {format_bytes(image.size_bytes)}, built without a daemon, {where}")
        step.add(f"{image.reference}  {short(image.digest)}")

    # 7. Served at the site; asked by both protocols.

    def deploy(self, step: Step) -> None:
        stage, engineer = self._stage, self._stage.people.ml_engineer
        model, image = _there(self.facts.model), _there(self.facts.image)
        engineer.deploy(DEPLOYMENT, model=model, image=image, site=stage.site)
        found = engineer.wait_deployment(DEPLOYMENT, progress=lambda one: step.now(f"{DEPLOYMENT} is {one.state}"))
        check(found.state == "healthy", f"the deployment is {found.state}: {found.reason.what} {found.reason.hint}")
        check(found.url.startswith("http"), "the deployment has no address")
        self.facts.deployment = found
        step.say(f"{DEPLOYMENT} is healthy at the site")
        step.add(found.url)

    def predict(self, step: Step) -> None:
        url, (rows, truth) = _there(self.facts.deployment).url, self._table.asked()
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as endpoint:
            table = {"dataframe_split": {"columns": list(FEATURES), "data": rows}}
            answers = _json(endpoint.post("/invocations", json=table))["predictions"]
            tensor = {"name": "input", "shape": [len(rows), len(FEATURES)], "datatype": "FP64", "data": rows}
            inferred = _json(endpoint.post(f"/v2/models/{MODEL}/infer", json={"inputs": [tensor]}))["outputs"][0][
                "data"
            ]
        check(len(answers) == len(rows), "there are not as many answers as rows")
        check(list(answers) == list(inferred), "the two protocols disagree")
        right = sum(int(answer) == label for answer, label in zip(answers, truth, strict=True))
        check(right * 10 >= len(rows) * 8, f"only {right} of {len(rows)} predictions are right")
        self.facts.predictions = [
            {"row": number_, "predicted": _LABELS[int(answer)], "actual": _LABELS[label], "right": int(answer) == label}
            for number_, (answer, label) in enumerate(zip(answers, truth, strict=True))
        ]
        step.say(f"{right} of {len(rows)} predictions are right; /invocations and /v2/…/infer agree")

    # 8. What left, and that the record of it is whole.

    def read_ledger(self, step: Step) -> None:
        stage = self._stage
        # The first entry opens the ledger: nothing left with it.
        entries = [entry for entry in stage.ask_site("ledger_show") if entry["kind"] != "opened"]
        self.facts.entries = entries
        self.facts.egress = [
            {
                "kind": entry["kind"],
                "name": describe(entry),
                "bytes": entry["size_bytes"],
                "decision": entry["decision"],
                "rule": entry["rule"],
                "entry": entry["seq"],
            }
            for entry in entries
        ]
        with stage.folder.ledger.open("rb") as stream:
            head = verify(stream)
        job, held, model = _there(self.facts.job), _there(self.facts.held), _there(self.facts.model)
        files = [entry for entry in entries if entry["kind"] == "file"]
        check([entry["job_id"] for entry in files] == [job.id], "another file than the released model left")
        check(files[0]["digest"] == model.digest, "what was registered is not what the ledger names")
        check(not any(entry["job_id"] == held.id for entry in files), "a held model left")
        sent = {item.entry for item in stage.people.data_scientist.egress(job.id)}
        check(sent <= {entry["seq"] for entry in entries}, "the hub holds something that the ledger does not name")
        self.facts.ledger = {"entries": head.entries, "verified": True}
        total = sum(entry["size_bytes"] for entry in entries)
        step.say(f"{format_bytes(total)} left the site in {head.entries} ledger entries; the chain holds")

    # -- how -----------------------------------------------------------------------------------------------------------

    def _prepare(self, changes: dict[str, str], step: Step) -> PreparedJob:
        return self._stage.people.data_scientist.prepare(example() / "job.yaml", changes=changes, progress=step.now)

    def _run(self, client: Client, prepared: PreparedJob, step: Step) -> Watched:
        with client.submit_and_follow(prepared) as (job, events):
            self._stage.jobs.append(job.id)
            watched = Watched(client, job)
            for event in events:
                watched.note(event)
                said = f"{job.id} {watched.state}: {printable(event.text)[:70]}"
                step.now(said if event.kind != "state" else watched.state)
        watched.job = client.job(job.id)
        return watched


@dataclass
class Watched:
    """What the data scientist saw of a job while it ran."""

    client: Client
    job: JobView
    state: str = "queued"
    lines: list[str] = field(default_factory=list)
    metric_while_running: bool = False
    line_while_running: bool = False

    def note(self, event: JobEvent) -> None:
        if event.kind == "state":
            self.state = str(event.data.get("state"))
        elif event.kind == "metric" and not self.metric_while_running:
            self.metric_while_running = self._runs_now()
        elif event.kind == "log":
            if event.data.get("stream") == "stdout":
                self.lines.append(printable(event.text))
            self.line_while_running = self.line_while_running or self._runs_now()

    def _runs_now(self) -> bool:
        return self.client.job(self.job.id).state is JobState.RUNNING


def until(look: Callable[[], Found | None], what: str, *, seconds: float = _SOON_S) -> Found:
    """What `look` finds as soon as it finds something.

    Raises:
        UnavailableError: it did not in time.
    """
    end = time.monotonic() + seconds
    last: InsituError | None = None
    while time.monotonic() < end:
        try:
            found = look()
        except InsituError as exc:
            # MLflow takes seconds to start, and says so; any error that stays is told at the end.
            found, last = None, exc
        if found:
            return found
        threading.Event().wait(_LOOK_S)
    raise UnavailableError(f"it did not happen in {seconds:g} s that {what}", code="demo-waited", why=str(last or ""))


def check(holds: bool, otherwise: str) -> None:
    """Raise unless a promise was kept."""
    if not holds:
        raise StoryError(otherwise, hint="this should not happen; `insitu demo --keep` keeps everything for a look")


def _unexpected(job: JobView, wanted: str) -> StoryError:
    why = job.reason
    return StoryError(
        f"job {job.id} is {job.state.value}, not {wanted}",
        why=" ".join(part for part in (job.failure, why.what) if part),
        hint=why.hint,
        rule=why.rule,
        measure=why.measure,
        limit=why.limit,
    )


def _registered(job: JobView) -> OutputView | None:
    return next((output for output in job.outputs if output.model_version), None)


def _there(found: Found | None) -> Found:
    assert found is not None, "an earlier step found it"
    return found


def _check_in_registry(registry: str, image: ImageView) -> None:
    """Asked of the registry itself: the manifest of that digest is there."""
    repository = image.reference.partition("/")[2].rpartition("@")[0] or image.reference.partition("/")[2]
    repository = repository.rpartition(":")[0] if ":" in repository else repository
    found = httpx.head(
        f"{registry}/v2/{repository}/manifests/{image.digest}",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
        timeout=10,
        trust_env=False,
    )
    check(found.status_code == httpx.codes.OK, f"the registry answers {found.status_code} for the image")


def _json(reply: httpx.Response) -> Any:
    check(reply.is_success, f"the endpoint answered {reply.status_code}: {reply.text[:300]}")
    return reply.json()
