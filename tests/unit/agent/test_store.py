"""What a site remembers of accepted jobs and their datasets."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from insitu.agent.store import Store
from insitu.testing.builders import NOON


@pytest.fixture
def store(tmp_path: Path):
    found = Store(tmp_path / "agent.db")
    yield found
    found.close()


def accept(store: Store, job_id: str, *datasets: str) -> None:
    envelope = f"sha256:{job_id}"
    accepted = store.accept(envelope=envelope, nonce=job_id, job_id=job_id, expires_at=NOON, datasets=list(datasets))
    assert accepted == job_id


def test_a_job_counts_once_for_a_dataset_however_many_versions_it_uses(store):
    accept(store, "j-2", "wdbc@1", "wdbc@2", "cohort@1")
    accept(store, "j-1", "wdbc@2")
    accept(store, "j-3", "wdbc-old@1")
    accept(store, "j-1", "wdbc@2")
    assert [store.runs_of(name) for name in ("wdbc", "cohort", "wdbc-old", "none")] == [2, 1, 1, 0]
    assert store.jobs_of("wdbc") == [("j-2", ["wdbc@1", "wdbc@2"]), ("j-1", ["wdbc@2"])]


def test_an_acceptance_is_on_the_disk_with_the_next_sync_and_waits_for_none(store):
    said: list[str] = []
    store._db.set_trace_callback(said.append)
    accept(store, "j-1", "wdbc@1")
    assert [line for line in said if line.startswith("pragma")] == ["pragma synchronous=normal"]
    said.clear()
    store.sync()
    assert [said[0], said[-1]] == ["pragma synchronous=full", "commit"]
    assert any("insert" in line for line in said), (
        "only a commit that writes is synced, and it takes all before it along"
    )


def test_a_version_is_in_use_while_an_attempt_reads_it(store):
    accept(store, "j-1", "wdbc@1")
    accept(store, "j-2", "wdbc@2")
    store.put_assignment("j-1", 1, 1, {})
    assert store.datasets_in_use() == {"wdbc@1"}
    store.set_over("j-1", 1)
    assert store.datasets_in_use() == set()


def test_what_an_earlier_agent_counted_still_counts(tmp_path):
    path = tmp_path / "agent.db"
    Store(path).close()
    old = sqlite3.connect(path)
    old.execute("create table runs (job_id text primary key, datasets text not null) strict")
    rows = [("j-2", ["wdbc@1", "cohort@3"]), ("j-1", ["wdbc@2"]), ("j-0", [])]
    old.executemany("insert into runs values (?, ?)", [(job_id, json.dumps(datasets)) for job_id, datasets in rows])
    old.commit()
    old.close()
    for _ in range(2):  # and once only
        store = Store(path)
        assert (store.runs_of("wdbc"), store.runs_of("cohort")) == (2, 1)
        assert store.jobs_of("wdbc") == [("j-2", ["wdbc@1"]), ("j-1", ["wdbc@2"])]
        store.close()
