"""A site with data, a judge and a past: jobs whose outputs were judged for real, and what the ledger says of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from insitu.agent.attempt import Attempt
from insitu.agent.catalogue import add_dataset
from insitu.agent.datastores import add_datastore
from insitu.agent.judging import judge
from insitu.agent.releasing import record, release_all
from insitu.agent.settings import AgentSettings, save_settings
from insitu.domain.jobs import JobState
from insitu.testing.builders import A_BASE
from insitu.wire.keys import SigningKey
from insitu.wire.ledger import GENESIS, LedgerEntry
from tests.unit.agent.review_world import ReviewWorld

RESULT = {"result": {"type": "uri_folder"}}
ROWS = [[0.5231 + row, 17.25 * row + 0.113, row % 7 + 0.5917] for row in range(200)]


class _NoLocks:
    def packages(self, _: str) -> tuple[tuple[str, str], ...]:
        return ()


class PastWorld(ReviewWorld):
    """Its jobs have gone through the real judge, in a process of its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.settings = AgentSettings(site="leeds", hub="http://127.0.0.1:1", base=A_BASE)
        save_settings(self.folder, self.settings)
        SigningKey.generate().save(self.folder.key)
        self.gate_gid = self.settings.gate_gid if os.geteuid() == 0 else None
        self.folder.make(gate_gid=self.gate_gid)
        data = self.root.with_name("data")
        data.mkdir()
        lines = ["a,b,c", *(",".join(str(value) for value in row) for row in ROWS)]
        (data / "wdbc.csv").write_text("\n".join(lines) + "\n")
        add_datastore(self.folder, "private", str(data))
        dataset = add_dataset(self.folder, "wdbc", datastore="private", pattern="*.csv", gate_gid=self.gate_gid)
        self.dataset_digest = dataset.digest

    def wrote(self, table: Any, *, metrics: int = 0, lines: int = 0, **document: Any) -> Attempt:
        """A job that wrote `table` as JSON, judged, and its events in the ledger."""
        attempt = self.attempt(dataset_digest=self.dataset_digest, **({"outputs": RESULT} | document))
        self.folder.make(gate_gid=self.gate_gid)
        attempt.workspace.make(gate_uid=self.settings.gate_gid)
        folder = attempt.workspace.frozen / "result"
        folder.mkdir(parents=True)
        (folder / "table.json").write_text(json.dumps(table))
        for path in (attempt.workspace.frozen, folder, folder / "table.json"):
            path.chmod(0o755)
        object.__setattr__(attempt.site, "environments", _NoLocks())
        decisions = judge(attempt.site, attempt.workspace, attempt.verified, attempt.row, attempt.datasets)
        self.said.add(record(attempt, decisions))
        if metrics or lines:
            self.ledger.append(self._batch(attempt, {"metric": metrics, "log": lines}))
        return attempt

    def sent(self, table: Any, **given: Any) -> Attempt:
        """The same, and what may leave has left."""
        attempt = self.wrote(table, **given)
        state = release_all(attempt).state
        self.store.save_state(attempt.row, state if state is not JobState.RELEASING else JobState.HELD)
        return attempt

    def _batch(self, attempt: Attempt, counts: dict[str, int]) -> LedgerEntry:
        return LedgerEntry(
            seq=0,
            at=self.now,
            kind="batch",
            job_id=attempt.row.job_id,
            attempt=1,
            datasets=["wdbc@1"],
            submitter=self.alice.fingerprint,
            counts=counts,
            size_bytes=100 * sum(counts.values()),
            prev=GENESIS,
        )

    def item(self, attempt: Attempt) -> Any:
        return self.store.queue.items(job_id=attempt.row.job_id)[0]


def past_world(folder: Path) -> PastWorld:
    return PastWorld(folder / "site")
