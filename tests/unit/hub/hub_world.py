"""A hub to test against, with the people and sites that call it: everything real but MLflow and the clock.

`HubWorld` is a hub on a loopback port, served from a thread of this process;
`Scientist` and `Agent` sign what real ones sign, with keys of their own.
"""

from __future__ import annotations

import base64
import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from httpx import Response

from insitu.domain.digests import digest_of
from insitu.domain.errors import NotFoundError, UnavailableError
from insitu.domain.outputs import OutputType
from insitu.hub import main
from insitu.hub.app import build_app
from insitu.hub.mlflow_records import (
    RESIDENT_TAG,
    ModelVersion,
    RegisteredModel,
    RegisteredRelease,
    ResidentModel,
    TrackingSettings,
    check_tag_key,
)
from insitu.hub.parts import Parts
from insitu.hub.settings import HubSettings
from insitu.hub.tracking import Tracking
from insitu.testing.builders import NOON
from insitu.wire.cards import CardDocument, seal_card
from insitu.wire.datasets import DatasetOffer
from insitu.wire.deployments import DeployedModel, ServingResources, sign_deployment
from insitu.wire.envelopes import Envelope
from insitu.wire.job_file import parse_job_document
from insitu.wire.jobs import DatasetPin, Target, sign_job
from insitu.wire.keys import SigningKey
from insitu.wire.ledger import GENESIS, LedgerEntry, ReadLedger, read_ledger
from insitu.wire.people import Role
from insitu.wire.releases import ReleasedFile, ReleaseDocument, files_digest, seal_release
from insitu.wire.sync import (
    AttemptReport,
    BaseOffer,
    Capacity,
    DeploymentReport,
    HeadProof,
    HeadReport,
    SyncReply,
    SyncRequest,
    head_message,
)
from insitu.wire.tokens import issue_agent_token

BASE = digest_of(b"base")
LOCK_BYTES = b'lock-version = "1.0"\n'
LOCK = digest_of(LOCK_BYTES)
CODE_BYTES = b"a snapshot of code"
CODE = digest_of(CODE_BYTES)
DATA = digest_of(b"wdbc, keyed")
MODEL_FILES = {"MLmodel": b"flavors: {}\n", "model.skops": b"weights"}


class ManualClock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def tick(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class FakeTracking:
    """Remembers what it was told, as MLflow would; `is_up` is false while MLflow starts."""

    def __init__(self, settings: TrackingSettings | None = None) -> None:
        self.is_up = True
        self.runs: dict[str, dict[str, Any]] = {}
        self.registered: dict[str, int] = {}  # release key → version
        self.version_of: dict[tuple[str, int], ModelVersion] = {}
        self.outputs: list[tuple[str, str, list[str]]] = []

    def start(self) -> None: ...

    def close(self) -> None: ...

    @property
    def ready(self) -> bool:
        return self.is_up

    def wait_ready(self, timeout_s: float) -> None:
        self._check()

    def _check(self) -> None:
        if not self.is_up:
            raise UnavailableError("MLflow is still starting", code="tracking-starting")

    def ensure_run(self, job_id: str, experiment: str, run_name: str, tags: Mapping[str, str]) -> str:
        self._check()
        run_id = "run-of-" + job_id
        self.runs.setdefault(
            run_id,
            {"experiment": experiment, "tags": dict(tags), "metrics": [], "params": {}, "end": None, "parent": None},
        )
        return run_id

    def child_run(self, parent_run_id: str, name: str, *, local_id: str = "") -> str:
        self._check()
        run_id = f"{parent_run_id}/{local_id or name}"
        self.runs.setdefault(
            run_id, {"name": name, "tags": {}, "metrics": [], "params": {}, "end": None, "parent": parent_run_id}
        )
        return run_id

    def log(self, run_id: str, metrics: Sequence[Any] = (), params: Any = None, tags: Any = None) -> tuple[()]:
        self._check()
        run = self.runs[run_id]
        run["metrics"] += [point for point in metrics if point not in run["metrics"]]
        run["params"].update(params or {})
        run["tags"].update(tags or {})
        return ()

    def finish(self, run_id: str, status: str) -> None:
        self._check()
        self.runs[run_id]["end"] = status

    def store_output(self, run_id: str, output: str, source: Path) -> None:
        self._check()
        files = sorted(str(path.relative_to(source)) for path in source.rglob("*") if path.is_file())
        self.outputs.append((run_id, output, files))

    def register_model(self, release: RegisteredRelease) -> int:
        self._check()
        key = f"{release.name}/{release.key}"
        if key not in self.registered:
            version = sum(other.startswith(f"{release.name}/") for other in self.registered) + 1
            self.registered[key] = version
            self.version_of[release.name, version] = ModelVersion(
                name=release.name,
                version=version,
                aliases=(),
                tags=dict(release.tags),
                digest=release.digest,
                run_id=release.run_id,
                job_id=release.job_id,
                output=release.output,
                description="",
                size_bytes=sum(path.stat().st_size for path in release.folder.rglob("*") if path.is_file()),
                created_at=datetime(2026, 11, 23, tzinfo=UTC),
            )
        return self.registered[key]

    def register_resident(self, model: ResidentModel) -> int:
        self._check()
        key = f"{model.name}/{model.key}"
        if key not in self.registered:
            version = sum(other.startswith(f"{model.name}/") for other in self.registered) + 1
            self.registered[key] = version
            self.version_of[model.name, version] = ModelVersion(
                name=model.name,
                version=version,
                aliases=(),
                tags={**model.tags, RESIDENT_TAG: model.site},
                digest=model.digest,
                run_id=model.run_id,
                job_id=model.job_id,
                output=model.output,
                description="",
                size_bytes=model.size_bytes,
                created_at=datetime(2026, 11, 23, tzinfo=UTC),
            )
        return self.registered[key]

    def list_models(self) -> list[RegisteredModel]:
        self._check()
        names = sorted({name for name, _ in self.version_of})
        at = datetime(2026, 11, 23, tzinfo=UTC)
        return [RegisteredModel(name, len(self.versions(name)), {}, {}, "", at, at) for name in names]

    def versions(self, name: str) -> list[ModelVersion]:
        self._check()
        return [found for (model, _), found in sorted(self.version_of.items(), reverse=True) if model == name]

    def get_version(self, name: str, version: int) -> ModelVersion:
        self._check()
        if (name, version) not in self.version_of:
            raise NotFoundError(f"no version {version} of {name}")
        return self.version_of[name, version]

    def set_tag(self, name: str, version: int, key: str, value: str) -> None:
        found = self.get_version(name, version)
        tags = {**found.tags, check_tag_key(key): value}
        self.version_of[name, version] = ModelVersion(**{**found.__dict__, "tags": tags})

    def set_alias(self, name: str, alias: str, version: int) -> None:
        self.get_version(name, version)
        for key, found in list(self.version_of.items()):
            if key[0] == name:
                others = tuple(one for one in found.aliases if one != alias)
                aliases = (*others, alias) if key[1] == version else others
                self.version_of[key] = ModelVersion(**{**found.__dict__, "aliases": aliases})


@dataclass
class HubWorld:
    """One hub, and the clock that it and everybody around it goes by."""

    settings: HubSettings
    clock: ManualClock
    app: FastAPI
    client: httpx.Client
    tracking: FakeTracking
    admin_token: str

    @property
    def parts(self) -> Parts:
        return self.app.state.parts

    @property
    def admin(self) -> Scientist:
        return Scientist(self, "admin", self.admin_token)

    def person(self, name: str, role: Role = Role.DATA_SCIENTIST) -> Scientist:
        """Somebody with a token of this role and a registered key."""
        reply = self.admin.post("/api/v1/tokens", {"name": name, "role": role.value})
        person = Scientist(self, name, reply.json()["token"])
        assert person.put("/api/v1/me/key", {"public_key": person.key.public.text}).status_code == 200
        return person

    def site(self, name: str = "leeds") -> Agent:
        """A site whose agent has joined and has reported once."""
        reply = self.admin.post("/api/v1/sites", {"name": name})
        assert reply.status_code == 201, reply.text
        agent = Agent(self, name)
        joined = agent.join(reply.json()["join_token"])
        assert joined.status_code == 200, joined.text
        agent.sync()
        return agent


@contextmanager
def a_hub(data: Path, *, database_url: str = "", real_mlflow: bool = False, **settings: Any) -> Iterator[HubWorld]:
    """A hub on a fresh folder. Nothing happens in it unasked: no loops run."""
    chosen = HubSettings(data=data, database_url=database_url, loops=False, **settings)
    clock, tracking = ManualClock(), FakeTracking()
    make = Tracking if real_mlflow else lambda _: tracking
    app = build_app(chosen, clock=clock, tracking=make)  # pyright: ignore[reportArgumentType]
    # The client outlives the hub, as it does elsewhere: what waits at the end is let go by the hub.
    with httpx.Client(timeout=60) as client, served(app, chosen) as url:
        client.base_url = url
        token = chosen.admin_token_file.read_text().strip()
        yield HubWorld(chosen, clock, app, client, tracking, token)


@contextmanager
def served(app: FastAPI, settings: HubSettings) -> Iterator[str]:
    """The application on a free port, served as the hub serves it; stopped as the hub is stopped."""
    answering = threading.Event()
    listening = main.bind("127.0.0.1", 0)
    server = main.Server(main.config(app, settings), app, answering.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        assert answering.wait(30), "the hub did not start"
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
        assert not thread.is_alive(), "the hub did not stop"


@dataclass
class Scientist:
    """Somebody with a token and a key."""

    world: HubWorld
    name: str
    token: str
    key: SigningKey = field(default_factory=SigningKey.generate)

    def call(self, method: str, path: str, **more: Any) -> Response:
        headers = {"Authorization": f"Bearer {self.token}", **more.pop("headers", {})}
        return self.world.client.request(method, path, headers=headers, **more)

    def get(self, path: str) -> Response:
        return self.call("GET", path)

    def post(self, path: str, body: Any = None) -> Response:
        return self.call("POST", path, json=body)

    def put(self, path: str, body: Any) -> Response:
        return self.call("PUT", path, json=body)

    def put_blob(self, data: bytes) -> Response:
        return self.call("PUT", f"/api/v1/blobs/{digest_of(data)}", content=data)

    def signed_job(self, **changes: Any) -> Envelope:
        return a_job(submitter=self.name, key=self.key, now=self.world.clock(), **changes)

    def submit(self, envelope: Envelope | None = None, **changes: Any) -> Response:
        """Upload what the job names, then post it."""
        for blob in (CODE_BYTES, LOCK_BYTES):
            assert self.put_blob(blob).status_code == 201
        envelope = envelope or self.signed_job(**changes)
        return self.post("/api/v1/jobs", {"envelope": envelope.model_dump(mode="json")})

    def job(self, job_id: str) -> dict[str, Any]:
        reply = self.get(f"/api/v1/jobs/{job_id}")
        assert reply.status_code == 200, reply.text
        return reply.json()

    def signed_deployment(self, **changes: Any) -> Envelope:
        fields: dict[str, Any] = {
            "name": "screening",
            "site": "leeds",
            "revision": 1,
            "base": BASE,
            "lock": LOCK,
            "port": None,
            "resources": ServingResources(),
            "submitter": self.name,
            "key": self.key,
            "now": self.world.clock(),
            **changes,
        }
        return sign_deployment(**fields)


def a_job(*, submitter: str, key: SigningKey, now: datetime, **changes: Any) -> Envelope:
    """A signed job over dataset wdbc@1, with one model to be registered."""
    document: dict[str, Any] = {
        "display_name": "wdbc-logistic",
        "experiment_name": "breast-cancer",
        "command": "python train.py --data ${{inputs.patients}}",
        "environment": {"requirements": "requirements.txt"},
        "inputs": {"patients": {"type": "dataset", "dataset": "wdbc@1"}},
        "outputs": {
            "model": {"type": "mlflow_model", "register": "breast-cancer"},
            "report": {"type": "uri_file"},
        },
        "metrics": ["auc"],
        **{name: value for name, value in changes.items() if name not in {"code", "targets", "datasets"}},
    }
    return sign_job(
        parse_job_document(document),
        code=changes.get("code", CODE),
        targets=changes.get("targets", [Target(base=BASE, python="3.11", platform="x86_64-linux", lock=LOCK)]),
        datasets=changes.get("datasets", [DatasetPin(input="patients", name="wdbc", version=1, digest=DATA)]),
        submitter=submitter,
        key=key,
        now=now,
    )


@dataclass
class Agent:
    """What a site's agent says to the hub."""

    world: HubWorld
    name: str
    key: SigningKey = field(default_factory=SigningKey.generate)
    started_at: datetime = field(default_factory=lambda: datetime(2026, 11, 23, 11, 0, tzinfo=UTC))
    _seq: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def call(self, method: str, path: str, **more: Any) -> Response:
        token = issue_agent_token(self.name, self.key, now=self.world.clock())
        headers = {"Authorization": f"Bearer {token}", **more.pop("headers", {})}
        return self.world.client.request(method, path, headers=headers, **more)

    def join(self, token: str) -> Response:
        body = {"token": token, "public_key": self.key.public.text}
        return self.world.client.post("/agent/v1/join", json=body)

    def report(self, **changes: Any) -> SyncRequest:
        fields: dict[str, Any] = {
            "agent_version": "0.1.0",
            "started_at": self.started_at,
            "sandbox": "bubblewrap",
            "policy_version": 1,
            "bases": [BaseOffer(digest=BASE, python="3.11", platform="x86_64-linux")],
            "capacity": Capacity(cpus=4, memory_bytes=8 << 30, slots=2),
            "datasets": [DatasetOffer(name="wdbc", version=1, digest=DATA, rows="100-1k")],
            **changes,
        }
        return SyncRequest(**fields)

    def post_report(self, report: SyncRequest) -> Response:
        return self.call("POST", "/agent/v1/sync", content=report.model_dump_json())

    def sync(self, **changes: Any) -> SyncReply:
        reply = self.post_report(self.report(**changes))
        assert reply.status_code == 200, reply.text
        return SyncReply.model_validate_json(reply.content)

    def holding(self, job_id: str, *, attempt: int = 1, fence: int = 1, state: str = "preparing") -> AttemptReport:
        return AttemptReport.model_validate(
            {"job_id": job_id, "attempt": attempt, "fence": fence, "state": state, "last_seq": 0}
        )

    def serving(self, name: str, revision: int, state: str = "healthy", url: str = "") -> DeploymentReport:
        return DeploymentReport.model_validate({"name": name, "revision": revision, "state": state, "url": url})

    def signed_head(self, ledger: ReadLedger) -> HeadReport:
        head = ledger.head
        signature = self.key.sign(head_message(self.name, head.entries, head.hash, head.root))
        signed = base64.b64encode(signature).decode()
        return HeadReport(entries=head.entries, hash=head.hash, root=head.root, signature=signed)

    def grown(self, ledger: ReadLedger, since: int) -> dict[str, Any]:
        """The head of a ledger in a report, with the proof that it begins with its first `since` entries."""
        steps = [step.hex() for step in ledger.tree.consistency_proof(since)]
        return {"head": self.signed_head(ledger), "head_proof": HeadProof(since=since, steps=steps)}

    def post_events(self, job_id: str, events: Sequence[Mapping[str, Any]], **changes: Any) -> Response:
        """Events numbered on from the last ones, unless `first` says otherwise."""
        first = changes.pop("first", None)
        at = self.world.clock().isoformat()
        numbered = [
            {"at": at, "seq": next(self._seq) if first is None else first + index, **event}
            for index, event in enumerate(events)
        ]
        batch = {
            "job_id": job_id,
            "attempt": 1,
            "fence": 1,
            "entry": 1,
            "size_bytes": 10,
            "events": numbered,
            **changes,
        }
        return self.call("POST", "/agent/v1/events", json=batch)

    def tell(self, job_id: str, *events: Mapping[str, Any], **changes: Any) -> int:
        reply = self.post_events(job_id, events, **changes)
        assert reply.status_code == 200, reply.text
        return reply.json()["acknowledged"]

    def state(self, job_id: str, *states: str, **more: Any) -> int:
        return self.tell(job_id, *({"kind": "state", "state": state, **more} for state in states))

    def upload(self, data: bytes) -> Response:
        headers = {"Upload-Offset": "0", "Upload-Length": str(len(data))}
        return self.call("POST", f"/agent/v1/uploads/{digest_of(data)}", content=data, headers=headers)

    def signed_release(self, job_id: str, *, files: Mapping[str, bytes] = MODEL_FILES, **changes: Any) -> Envelope:
        listed = [
            ReleasedFile(path=path, digest=digest_of(data), size_bytes=len(data))
            for path, data in sorted(files.items())
        ]
        fields: dict[str, Any] = {
            "job_id": job_id,
            "attempt": 1,
            "fence": 1,
            "output": "model",
            "type": OutputType.MLFLOW_MODEL,
            "register_as": "breast-cancer",
            "files": listed,
            "digest": files_digest(listed),
            "datasets": {"wdbc@1": DATA},
            "code": CODE,
            "lock": LOCK,
            "base": BASE,
            "policy_version": 1,
            "rule": "clean",
            "entry": 3,
            "released_at": self.world.clock(),
            **changes,
        }
        return seal_release(ReleaseDocument(**fields), self.key)

    def release(self, job_id: str, *, files: Mapping[str, bytes] = MODEL_FILES, **changes: Any) -> Response:
        for data in files.values():
            assert self.upload(data).status_code == 204
        envelope = self.signed_release(job_id, files=files, **changes)
        return self.call("POST", "/agent/v1/releases", json=envelope.model_dump(mode="json"))

    def signed_card(self, job_id: str, **changes: Any) -> Envelope:
        """Of a model that stays here."""
        fields: dict[str, Any] = {
            "job_id": job_id,
            "attempt": 1,
            "fence": 1,
            "output": "model",
            "type": OutputType.MLFLOW_MODEL,
            "register_as": "breast-cancer",
            "digest": digest_of(b"a model that stays"),
            "files": 2,
            "size_bytes": 105_000,
            "datasets": {"wdbc@1": DATA},
            "code": CODE,
            "lock": LOCK,
            "base": BASE,
            "policy_version": 1,
            "rule": "resident by jo",
            "reviewer": "jo",
            "entry": 3,
            "decided_at": self.world.clock(),
            **changes,
        }
        return seal_card(CardDocument(**fields), self.key)

    def announce(self, job_id: str, **changes: Any) -> Response:
        envelope = self.signed_card(job_id, **changes)
        return self.call("POST", "/agent/v1/cards", json=envelope.model_dump(mode="json"))


def a_running_job(world: HubWorld, scientist: Scientist, agent: Agent, **changes: Any) -> str:
    """A job that its site runs, acknowledged."""
    reply = scientist.submit(**changes)
    assert reply.status_code == 201, reply.text
    job_id = reply.json()["id"]
    assert reply.json()["state"] == "assigned", reply.text
    agent.sync(attempts=[agent.holding(job_id)])
    agent.state(job_id, "preparing", "running")
    return job_id


def a_model(world: HubWorld, scientist: Scientist, agent: Agent) -> str:
    """A job whose model was released and registered as breast-cancer version 1; returns the job's id."""
    job_id = a_running_job(world, scientist, agent)
    agent.state(job_id, "judging", "releasing")
    assert agent.release(job_id).status_code == 200
    agent.state(job_id, "succeeded")
    return job_id


def deployed_model(digest: str) -> DeployedModel:
    return DeployedModel(name="breast-cancer", version=1, digest=digest)


def a_ledger(entries: int, word: str = "") -> ReadLedger:
    """A ledger of so many entries; another word makes another ledger."""
    lines, prev = [], GENESIS
    for seq in range(entries):
        entry = LedgerEntry(seq=seq, at=NOON, kind="status", name=f"{word}{seq}", prev=prev)
        lines.append(entry.as_line())
        prev = entry.hash
    return read_ledger(lines)
