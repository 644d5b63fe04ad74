"""What a site remembers between two starts: attempts, accepted envelopes, judged outputs (`review_queue`).

Standard-library SQLite in one file, WAL with synchronous=FULL: a commit that
returned is on disk. Except on the way to a job's start, where somebody waits: that
an attempt was offered and is being prepared is offered and prepared again after a
power cut; that its envelope was accepted is on disk before anything of it runs.
What left the site is not here but in the ledger.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from insitu.agent.review_queue import SCHEMA as REVIEW_SCHEMA
from insitu.agent.review_queue import ReviewQueue
from insitu.domain.jobs import JobState

_SCHEMA = """
create table if not exists accepted (
    envelope text primary key,           -- digest of the envelope
    nonce text not null unique,          -- remembered until it expires: the same envelope starts one job
    job_id text not null,
    expires_at text not null
) strict;
create table if not exists uses (        -- which versions accepted jobs were let to: for policy's `runs`, and for people
    dataset text not null,
    version text not null,               -- name@version
    job_id text not null,
    primary key (dataset, job_id, version)
) strict;
create index if not exists uses_of_job on uses (job_id);
create table if not exists attempts (
    job_id text not null,
    attempt integer not null,
    fence integer not null,
    state text not null,
    envelope text not null,              -- JSON, as it arrived
    details text not null default '{}',  -- JSON: what the steps left for each other
    cancel integer not null default 0,
    acked integer not null default 0,    -- last sequence number that the hub holds
    over integer not null default 0,     -- final here and everything about it acknowledged
    primary key (job_id, attempt)
) strict;
create index if not exists open_attempts on attempts (job_id) where over = 0;  -- asked for with each report
create table if not exists deployments (
    name text primary key,
    revision integer not null,
    envelope text not null,
    details text not null default '{}'
) strict;
create table if not exists uids (             -- host uids that jobs have now
    uid integer primary key,
    job_id text not null,
    attempt integer not null
) strict;
create table if not exists clock (id integer primary key check (id = 1), latest text not null) strict;
"""


# Earlier agents kept the versions of a job as one JSON text, which had to be read for all jobs to count those of a dataset.
_FROM_RUNS = """
begin;
insert or ignore into uses
    select substr(value, 1, instr(value, '@') - 1), value, job_id from runs, json_each(runs.datasets) order by runs.rowid;
drop table runs;
commit;
"""


_READING = (JobState.ASSIGNED, JobState.PREPARING, JobState.RUNNING, JobState.JUDGING)


@dataclass
class AttemptRow:
    """One attempt as this site holds it."""

    job_id: str
    attempt: int
    fence: int
    state: JobState
    envelope: dict[str, Any]
    details: dict[str, Any] = field(default_factory=dict)
    cancel: bool = False
    acked: int = 0
    over: bool = False

    @property
    def key(self) -> tuple[str, int]:
        return (self.job_id, self.attempt)


class Store:
    """The agent's database. Safe for threads: one connection, one lock, short transactions."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=full")
        self._db.executescript(_SCHEMA + REVIEW_SCHEMA)
        if self._db.execute("select 1 from sqlite_schema where type = 'table' and name = 'runs'").fetchone():
            self._db.executescript(_FROM_RUNS)
        rows = self._db.execute("select latest from clock where id = 1").fetchall()
        self._latest = datetime.fromisoformat(rows[0][0]) if rows else datetime.fromtimestamp(0, UTC)
        path.chmod(0o600)
        self.queue = ReviewQueue(self._write, self._read)
        """Judged outputs, verdicts on them, and who looked at them."""

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def _write(self, *, synced: bool = True) -> Iterator[sqlite3.Connection]:
        """One transaction.

        Args:
            synced: on the platter when it returns. Without it the kernel has it, so it survives
                `kill -9`; a power cut may undo it, up to the last one that was synced.
        """
        with self._lock:
            # Of a write-ahead log a sync takes everything before it along (sqlite.org/pragma.html#pragma_synchronous).
            self._db.execute("pragma synchronous=full" if synced else "pragma synchronous=normal")
            self._db.execute("begin immediate")
            try:
                yield self._db
            except BaseException:
                self._db.execute("rollback")
                raise
            # With every commit that there is anyway: looking at the clock must not cost one.
            self._db.execute("insert or replace into clock values (1, ?)", (self._latest.isoformat(),))
            self._db.execute("commit")

    def sync(self) -> None:
        """Have everything on disk that was committed until now."""
        with self._write():
            pass

    def _read(self, sql: str, *values: object) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    # -- attempts ------------------------------------------------------------------------------------------------------

    def put_assignment(self, job_id: str, attempt: int, fence: int, envelope: dict[str, Any]) -> AttemptRow | None:
        """Record an offered attempt; None if it was known. An attempt of an older fence is never recorded."""
        with self._write(synced=False) as db:
            newest = db.execute("select max(fence) from attempts where job_id = ?", (job_id,)).fetchone()[0]
            if newest is not None and newest >= fence:
                return None
            db.execute(
                "insert into attempts (job_id, attempt, fence, state, envelope) values (?, ?, ?, ?, ?)",
                (job_id, attempt, fence, JobState.ASSIGNED.value, json.dumps(envelope)),
            )
        return AttemptRow(job_id, attempt, fence, JobState.ASSIGNED, envelope)

    def attempt(self, job_id: str, attempt: int) -> AttemptRow | None:
        rows = self._read("select * from attempts where job_id = ? and attempt = ?", job_id, attempt)
        return _attempt(rows[0]) if rows else None

    def newest_attempt(self, job_id: str) -> AttemptRow | None:
        rows = self._read("select * from attempts where job_id = ? order by attempt desc limit 1", job_id)
        return _attempt(rows[0]) if rows else None

    def newest_attempts(self) -> list[AttemptRow]:
        """Of each job that was ever here its last attempt, oldest job first."""
        rows = self._read(
            "select * from attempts where attempt = "
            "(select max(attempt) from attempts as others where others.job_id = attempts.job_id) order by rowid"
        )
        return [_attempt(row) for row in rows]

    def open_attempts(self) -> list[AttemptRow]:
        return [_attempt(row) for row in self._read("select * from attempts where over = 0 order by rowid")]

    def save_state(self, row: AttemptRow, state: JobState, **details: object) -> None:
        """Move an attempt on, with what the next step needs."""
        row.details.update(details)
        row.state = state
        with self._write(synced=state is not JobState.PREPARING) as db:
            db.execute(
                "update attempts set state = ?, details = ? where job_id = ? and attempt = ?",
                (state.value, json.dumps(row.details), *row.key),
            )

    def set_cancel(self, job_id: str, attempt: int) -> None:
        with self._write() as db:
            db.execute("update attempts set cancel = 1 where job_id = ? and attempt = ?", (job_id, attempt))

    def set_acked(self, job_id: str, attempt: int, acked: int) -> None:
        with self._write() as db:
            db.execute(
                "update attempts set acked = max(acked, ?) where job_id = ? and attempt = ?", (acked, job_id, attempt)
            )

    def set_over(self, job_id: str, attempt: int) -> None:
        with self._write() as db:
            db.execute("update attempts set over = 1 where job_id = ? and attempt = ?", (job_id, attempt))
            db.execute("delete from uids where job_id = ? and attempt = ?", (job_id, attempt))

    def take_uid(self, row: AttemptRow, *, first: int) -> int:
        """A host uid for the job's code that no other job here has now, the same one when asked again."""
        with self._write(synced=False) as db:
            known = db.execute("select uid from uids where job_id = ? and attempt = ?", row.key).fetchone()
            if known is not None:
                return int(known[0])
            taken = {uid for (uid,) in db.execute("select uid from uids")}
            uid = next(uid for uid in range(first, first + len(taken) + 1) if uid not in taken)
            db.execute("insert into uids values (?, ?, ?)", (uid, *row.key))
            return uid

    # -- what was accepted ---------------------------------------------------------------------------------------------

    def accept(self, *, envelope: str, nonce: str, job_id: str, expires_at: datetime, datasets: list[str]) -> str:
        """Remember an envelope; the job id under which it was accepted, now or before.

        A replay under another job id gets the first id back, and the caller refuses. It is on disk after the next
        commit that is synced: `sync`, before anything of the job runs.
        """
        with self._write(synced=False) as db:
            known = db.execute("select job_id from accepted where envelope = ? or nonce = ?", (envelope, nonce))
            first = known.fetchone()
            if first is not None:
                return str(first[0])
            db.execute("insert into accepted values (?, ?, ?, ?)", (envelope, nonce, job_id, expires_at.isoformat()))
            uses = [(label.partition("@")[0], label, job_id) for label in datasets]
            db.executemany("insert or ignore into uses values (?, ?, ?)", uses)
            return job_id

    def is_accepted(self, envelope: str) -> bool:
        return bool(self._read("select 1 from accepted where envelope = ?", envelope))

    def runs_of(self, dataset: str) -> int:
        """How many accepted jobs have used a dataset, whichever version."""
        rows = self._read("select count(distinct job_id) from uses where dataset = ?", dataset)
        return int(rows[0][0])

    def jobs_of(self, dataset: str) -> list[tuple[str, list[str]]]:
        """(job, versions of it that the job was accepted for) for each accepted job of a dataset, oldest first."""
        found: dict[str, list[str]] = {}
        for row in self._read("select job_id, version from uses where dataset = ? order by rowid", dataset):
            found.setdefault(row[0], []).append(row[1])
        return list(found.items())

    def datasets_in_use(self) -> set[str]:
        """name@version of what open attempts read, or will."""
        rows = self._read(
            "select distinct uses.version from uses join attempts using (job_id) "
            "where attempts.over = 0 and attempts.state in (?, ?, ?, ?)",
            *(state.value for state in _READING),
        )
        return {row[0] for row in rows}

    # -- deployments ---------------------------------------------------------------------------------------------------

    def put_deployment(self, name: str, revision: int, envelope: dict[str, Any]) -> None:
        with self._write() as db:
            db.execute(
                "insert into deployments (name, revision, envelope) values (?, ?, ?) "
                "on conflict (name) do update set revision = excluded.revision, envelope = excluded.envelope",
                (name, revision, json.dumps(envelope)),
            )

    def deployments(self) -> dict[str, tuple[int, dict[str, Any]]]:
        rows = self._read("select name, revision, envelope from deployments")
        return {row[0]: (row[1], json.loads(row[2])) for row in rows}

    def drop_deployment(self, name: str) -> None:
        with self._write() as db:
            db.execute("delete from deployments where name = ?", (name,))

    # -- time ----------------------------------------------------------------------------------------------------------

    def floor_clock(self, now: datetime) -> datetime:
        """`now`, but never earlier than the latest time recorded here: a clock set back revives nothing."""
        with self._lock:
            self._latest = max(self._latest, now)
            return self._latest


def _attempt(row: sqlite3.Row) -> AttemptRow:
    return AttemptRow(
        job_id=row["job_id"],
        attempt=row["attempt"],
        fence=row["fence"],
        state=JobState(row["state"]),
        envelope=json.loads(row["envelope"]),
        details=json.loads(row["details"]),
        cancel=bool(row["cancel"]),
        acked=row["acked"],
        over=bool(row["over"]),
    )
