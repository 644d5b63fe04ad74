"""A site without a hub or a sandbox: items, reviewers and a ledger, on real files."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import numpy as np

from insitu.agent.attempt import Attempt
from insitu.agent.catalogue import in_use
from insitu.agent.cover_attempt import at_acceptance
from insitu.agent.folder import SiteFolder
from insitu.agent.judge_pool import JudgePool
from insitu.agent.ledger import Ledger
from insitu.agent.policy_file import PolicyFile
from insitu.agent.releasing import record, release_all
from insitu.agent.run_envelopes import RunEnvelopes
from insitu.agent.settings import AgentSettings
from insitu.agent.site import Site
from insitu.agent.staging.data_cache import DataCache
from insitu.agent.steward import Steward
from insitu.agent.store import Store
from insitu.agent.stream import About
from insitu.agent.workspace import Workspace
from insitu.domain.digests import Digest
from insitu.domain.jobs import JobState
from insitu.domain.outputs import Decision, Finding, Verdict
from insitu.domain.reviews import ReviewVerdict
from insitu.testing.builders import (
    A_BASE,
    A_DATASET,
    A_LOCK,
    NOON,
    a_job_document,
    a_policy_text,
    a_signed_job,
    a_signed_run_envelope,
)
from insitu.wire.envelopes import Envelope
from insitu.wire.jobs import Target, open_job
from insitu.wire.keys import SigningKey
from insitu.wire.ledger import LedgerEntry
from insitu.wire.run_envelopes import open_run_envelope
from insitu.wire.verdicts import ViewDocument, sign_verdict, sign_view, verdict_document

ROWS = Finding(
    "rows-in-model", "426 of the dataset's 569 rows", "0 rows", "use another estimator", "model.skops: array 3"
)


class Hub:
    """Takes what it is sent, after the errors that a test wants it to raise first."""

    def __init__(self) -> None:
        self.uploads: list[str] = []
        self.releases: list[Envelope] = []
        self.cards: list[Envelope] = []
        self.errors: list[Exception] = []

    def upload(self, path: Path, digest: Digest) -> None:
        del path
        self.uploads.append(digest)

    def send_release(self, envelope: Envelope) -> None:
        self.releases.append(envelope)

    def send_card(self, envelope: Envelope) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.cards.append(envelope)


class Said:
    """A stream that keeps what the attempt tells the hub."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def add(self, events: list[dict[str, Any]]) -> None:
        self.events += events


@dataclass
class ReviewWorld:
    """One site with the reviewers jo and bo, and jobs of alice's."""

    root: Path
    alice: SigningKey = field(default_factory=SigningKey.generate)
    jo: SigningKey = field(default_factory=SigningKey.generate)
    bo: SigningKey = field(default_factory=SigningKey.generate)
    hub: Hub = field(default_factory=Hub)
    said: Said = field(default_factory=Said)
    now: datetime = NOON
    woken: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    _jobs: int = 0

    def __post_init__(self) -> None:
        self.folder = SiteFolder(self.root)
        self.folder.make()
        self.write_policy()
        self.open()

    def open(self) -> None:
        """As an agent does when it starts."""
        self.store, self.ledger = Store(self.folder.database), Ledger(self.folder.ledger)
        self.policy = PolicyFile(self.folder.policy)

    def write_policy(self, *, needed: int = 1, reviewers: dict[str, SigningKey] | None = None, **changes: str) -> None:
        listed = {name: key.fingerprint for name, key in (reviewers or {"jo": self.jo, "bo": self.bo}).items()}
        review = json.dumps({"reviewers": listed, "needed": needed, "own": "never"})
        # Replaced whole: the agent tells a new policy by its file, and two writes may fall into one tick of its clock.
        fresh = self.folder.policy.with_suffix(".new")
        sections: dict[str, Any] = {"review": review} | changes
        fresh.write_text(a_policy_text(self.alice, **sections))
        fresh.replace(self.folder.policy)

    @property
    def steward(self) -> Steward:
        return Steward(
            folder=self.folder,
            store=self.store,
            ledger=self.ledger,
            policy=self.policy,
            wake=lambda job, attempt: self.woken.append((job, attempt)),
            changed=lambda: None,
            gate_gid=None,
            cache=self.folder.cache,
            data=self.data,
            environment={},
            now=lambda: self.now,
        )

    @property
    def data(self) -> DataCache:
        self.folder.cache.mkdir(parents=True, exist_ok=True)
        return DataCache(self.folder.cache, b"k" * 32, in_use=in_use(self.folder, self.store))

    # -- jobs and what they wrote --------------------------------------------------------------------------------------

    def attempt(
        self, *, details: dict[str, Any] | None = None, dataset_digest: str = A_DATASET, **document: Any
    ) -> Attempt:
        """A job of alice's whose outputs are about to be judged."""
        self._jobs += 1
        job_id = f"j-{self._jobs}"
        envelope = a_signed_job(self.alice, document=a_job_document(**document), dataset_digest=dataset_digest)
        self.store.put_assignment(job_id, 1, self._jobs, envelope.model_dump(mode="json"))
        row = self.store.attempt(job_id, 1)
        assert row is not None
        signer = {"alice": self.alice.fingerprint}
        target = {"base": A_BASE, "python": "3.11", "platform": "x86_64-linux", "lock": A_LOCK}
        self.store.save_state(row, JobState.HELD, signer=signer, target=target, **(details or {}))
        job = open_job(envelope, signers=signer)
        workspace = Workspace(self.folder.jobs / job_id)
        workspace.out.mkdir(parents=True)
        about = About(job_id, 1, row.fence, ("wdbc@1",), self.alice.fingerprint, 7)
        stream = cast("Any", self.said)
        return Attempt(self.site, row, job, None, workspace, stream, about, threading.Event(), threading.Event())

    def cover(self, attempt: Attempt) -> str:
        """Have jo approve jobs like this one for good; the digest of the run envelope, which now covers it."""
        envelope = a_signed_run_envelope(
            attempt.site.key, self.alice, self.jo, document=attempt.verified.job.as_document()
        )
        verified = open_run_envelope(envelope, reviewers={"jo": self.jo.fingerprint})
        RunEnvelopes(self.folder.run_envelopes).add(verified, envelope, now=self.now)
        target = Target.model_validate(attempt.row.details["target"])
        attempt.row.details |= at_acceptance(attempt.site, attempt.row.job_id, attempt.verified, target)
        assert attempt.run_envelope == verified.digest
        return verified.digest

    @property
    def site(self) -> Site:
        parts: dict[str, Any] = dict.fromkeys(Site.__dataclass_fields__)
        settings = AgentSettings(site="leeds", hub="http://127.0.0.1:1")
        parts |= {
            "folder": self.folder,
            "settings": settings,
            "judges": JudgePool(self.folder.root, uid=settings.gate_gid),
            "cache": self.folder.cache,
            "data": self.data,
            "environment": {},
            "store": self.store,
            "ledger": self.ledger,
            "policy": self.policy,
            "link": self.hub,
            "key": SigningKey.generate(),
            "now": lambda: self.now,
        }
        return Site(**parts)

    def judged(self, attempt: Attempt, decision: Decision | None = None, *, rows: int = 4) -> str:
        """The judge's copy of a model, and its decision; the item's id. Without a decision it is held for rows."""
        decision = decision or held()
        if decision.files:
            model = attempt.workspace.out / decision.name
            model.mkdir()
            np.save(model / "weights.npy", np.arange(rows * 5, dtype=np.float64).reshape(rows, 5))
            (model / "MLmodel").write_text("flavors: {}\n")
        self.said.add(record(attempt, [decision]))
        return self.store.queue.items(job_id=attempt.row.job_id)[0].id

    def held_item(self, **changes: Any) -> str:
        return self.judged(self.attempt(**changes))

    def walk_on(self, attempt: Attempt) -> JobState:
        """What the attempt does when a verdict has woken it."""
        return release_all(attempt).state

    def state(self, item: str) -> str:
        found = self.store.queue.item(item)
        assert found is not None
        return found.state.value

    # -- people --------------------------------------------------------------------------------------------------------

    def signed(self, item: str, verdict: str, key: SigningKey, *, reason: str = "", digest: str = "") -> dict[str, Any]:
        terms = self.steward.release_terms(id=item)
        document = verdict_document(
            release_id=item,
            digest=digest or terms["digest"],
            verdict=ReviewVerdict(verdict),
            reason=reason,
            policy_version=terms["policy_version"],
            ledger_entries=terms["ledger_entries"],
            ledger_hash=terms["ledger_hash"],
            now=self.now,
        )
        return sign_verdict(document, key).model_dump(mode="json")

    def decide(self, item: str, verdict: str, key: SigningKey, *, reason: str = "because") -> dict[str, Any]:
        return self.steward.release_decide(id=item, envelope=self.signed(item, verdict, key, reason=reason))

    def look(self, item: str, key: SigningKey | None = None, what: str = "show") -> dict[str, Any]:
        view = None
        if key is not None:
            document = ViewDocument(release_id=item, what=what, name="root", viewed_at=self.now)  # type: ignore[arg-type]
            view = sign_view(document, key).model_dump(mode="json")
        return getattr(self.steward, f"release_{what}")(id=item, view=view)

    def entries(self, kind: str) -> list[LedgerEntry]:
        return [entry for entry in self.ledger.entries() if entry.kind == kind]


def held(**changes: Any) -> Decision:
    fields: dict[str, Any] = {
        "name": "model",
        "verdict": Verdict.HELD,
        "rule": ROWS.rule,
        "measure": ROWS.measure,
        "limit": ROWS.limit,
        "hint": ROWS.hint,
        "findings": (ROWS,),
        "checks": ("declared-only", "rows-in-model", "types", "pickles"),
        "not_checked": ("types",),
        "size_bytes": 300,
        "ceiling_bytes": 0,
        "files": ("MLmodel", "weights.npy"),
    }
    return Decision(**(fields | changes))
