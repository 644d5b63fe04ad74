"""The run envelopes of a site: kept, signed, revoked, and their runs counted.

One SQLite file of its own in the site's folder, opened for each question: it is
asked once for each job, and a site without run envelopes has no such file. What a
signature is worth is settled at each question by the policy as it is then, so a
reviewer who was struck off approves nothing any more.

A run is a row with the job's id: the same job asked again, after a crash or as
another attempt, is the same row. Choosing and counting are one transaction, so two
jobs that come at once don't share the last run.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from insitu.agent.envelope_rules import Approval, Mismatch, Place, nearest, why_not, why_not_any_more
from insitu.domain.errors import ConflictError, InsituError, NotFoundError
from insitu.gate.policy.loading import Policy
from insitu.wire.envelopes import Envelope, parse_envelope
from insitu.wire.jobs import VerifiedJob
from insitu.wire.run_envelopes import VerifiedRunEnvelope, open_run_envelope

_SCHEMA = """
create table if not exists envelopes (
    digest text primary key,             -- of the signed bytes
    added_at text not null,
    revoked_at text not null default '',
    reason text not null default ''
) strict;
create table if not exists signatures (
    digest text not null,
    key text not null,                   -- fingerprint of who signed
    envelope text not null,              -- JSON, as it arrived
    primary key (digest, key)
) strict;
create table if not exists runs (
    job_id text primary key,             -- one row for each job that was covered
    digest text not null,
    at text not null
) strict;
"""

_PATIENCE_S = 30.0  # for another thread's transaction


@dataclass(frozen=True)
class Standing:
    """A run envelope with what became of it, for people at the site."""

    approval: Approval
    added_at: datetime
    revoked_at: datetime | None
    reason: str


@dataclass(frozen=True)
class Covered:
    """Which run envelope covers a job; or which came nearest, and why it doesn't."""

    digest: str = ""
    title: str = ""
    mismatches: tuple[Mismatch, ...] = ()

    @property
    def hint(self) -> str:
        """For the data scientist, of a job that nothing covers."""
        if self.digest or not self.title:
            return ""
        return f"nearest run envelope: {self.title!r}; " + "; ".join(str(mismatch) for mismatch in self.mismatches)


class RunEnvelopes:
    """A site's run envelopes. Holds nothing open between two calls."""

    def __init__(self, path: Path) -> None:
        self._path = path

    # -- kept ----------------------------------------------------------------------------------------------------------

    def add(self, verified: VerifiedRunEnvelope, envelope: Envelope, *, now: datetime) -> bool:
        """Keep a signed run envelope, or one more signature under it; False when this signature is known.

        Raises:
            ConflictError: it was revoked. What was taken back does not come back by sending it again.
        """
        with self._write() as db:
            known = db.execute("select revoked_at from envelopes where digest = ?", (verified.digest,)).fetchone()
            if known is not None and known[0]:
                raise ConflictError(
                    "this run envelope was revoked", code="revoked", hint="make a new one: `insitu envelope create`"
                )
            db.execute(
                "insert or ignore into envelopes (digest, added_at) values (?, ?)", (verified.digest, now.isoformat())
            )
            row = (verified.digest, verified.signer, json.dumps(envelope.model_dump(mode="json")))
            return bool(db.execute("insert or ignore into signatures values (?, ?, ?)", row).rowcount)

    def revoke(self, digest: str, *, reason: str, now: datetime) -> None:
        """Cover nothing with it from now on. It only takes away, so it needs no signature.

        Raises:
            ConflictError: it was revoked before.
        """
        with self._write() as db:
            changed = db.execute(
                "update envelopes set revoked_at = ?, reason = ? where digest = ? and revoked_at = ''",
                (now.isoformat(), reason, digest),
            ).rowcount
        if not changed:
            raise ConflictError("this run envelope is not in force", code="revoked", hint="see `insitu envelope list`")

    def all(self, policy: Policy | None) -> list[Standing]:
        """Every one that was kept, newest first; also those whose signers the policy names no more."""
        with self._read() as db:
            return [] if db is None else list(_standings(db, policy))

    def find(self, word: str, policy: Policy | None) -> Standing:
        """The one whose digest begins with `word`, with or without `sha256:`.

        Raises:
            NotFoundError: there is none, or several.
        """
        start = word if word.startswith("sha256:") else f"sha256:{word}"
        found = [one for one in self.all(policy) if word and one.approval.digest.startswith(start)]
        if len(found) != 1:
            raise NotFoundError(
                f"{'several run envelopes begin' if found else 'no run envelope begins'} with {word[:80]!r}",
                code="no-run-envelope",
                hint="`insitu envelope list`",
            )
        return found[0]

    def envelopes_of(self, digest: str) -> list[Envelope]:
        """The document with each signature under it."""
        with self._read() as db:
            rows = [] if db is None else db.execute("select envelope from signatures where digest = ?", (digest,))
            return [parse_envelope(json.loads(row[0])) for row in rows]

    # -- asked ---------------------------------------------------------------------------------------------------------

    def cover(self, job_id: str, job: VerifiedJob, place: Place, *, now: datetime) -> Covered:
        """Find a run envelope for a job that is being accepted, and count the run. Repeating it counts nothing."""
        if not self._path.exists():
            return Covered()
        with self._write() as db:
            bound = db.execute("select digest from runs where job_id = ?", (job_id,)).fetchone()
            if bound is not None:
                return _still(db, bound[0], job, place)
            asked = [one.approval for one in _standings(db, place.policy)]
            found = [(approval, why_not(approval, job, place, now=now)) for approval in asked]
            covering = [approval for approval, mismatches in found if not mismatches]
            if not covering:
                return _described(nearest(found))
            chosen = min(covering, key=lambda approval: approval.document.expires_at)
            db.execute("insert into runs values (?, ?, ?)", (job_id, chosen.digest, now.isoformat()))
            return Covered(chosen.digest, chosen.document.title)

    def still_covers(self, job_id: str, job: VerifiedJob, place: Place) -> Covered:
        """Whether what covered the job when it was accepted does so now: stricter applies at once."""
        with self._read() as db:
            bound = db and db.execute("select digest from runs where job_id = ?", (job_id,)).fetchone()
            return _still(db, bound[0], job, place) if db and bound else Covered()

    # -- the file ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """One transaction, on the disk when it returns."""
        with closing(self._open()) as db:
            db.execute("begin immediate")
            yield db
            db.execute("commit")

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection | None]:
        if not self._path.exists():
            yield None
            return
        with closing(self._open()) as db:
            yield db

    def _open(self) -> sqlite3.Connection:
        self._path.touch(mode=0o600)
        db = sqlite3.connect(self._path, isolation_level=None, timeout=_PATIENCE_S)
        db.execute("pragma synchronous=full")
        db.executescript(_SCHEMA)
        return db


def _still(db: sqlite3.Connection, digest: str, job: VerifiedJob, place: Place) -> Covered:
    approval = next((one.approval for one in _standings(db, place.policy) if one.approval.digest == digest), None)
    if approval is None:
        return Covered()
    mismatches = why_not_any_more(approval, job, place)
    return _described((approval, mismatches)) if mismatches else Covered(digest, approval.document.title)


def _described(found: tuple[Approval, tuple[Mismatch, ...]] | None) -> Covered:
    return Covered(title=found[0].document.title, mismatches=found[1]) if found else Covered()


def _standings(db: sqlite3.Connection, policy: Policy | None) -> Iterator[Standing]:
    """Each one with the signatures that hold; one that nobody's signature is under any more is nothing."""
    runs = dict(db.execute("select digest, count(*) from runs group by digest").fetchall())
    for digest, added_at, revoked_at, reason in db.execute("select * from envelopes order by rowid desc").fetchall():
        signed = _signed(db, digest, policy)
        if signed:
            approval = Approval(
                digest=digest,
                document=signed[0].document,
                signed_by={one.signer_name: one.signer for one in signed if one.signer_name},
                runs=runs.get(digest, 0),
                revoked=bool(revoked_at),
            )
            at = datetime.fromisoformat(revoked_at) if revoked_at else None
            yield Standing(approval, datetime.fromisoformat(added_at), at, reason)


def _signed(db: sqlite3.Connection, digest: str, policy: Policy | None) -> list[VerifiedRunEnvelope]:
    """What was signed, by whom: under the name that the policy has for the key now, or under none."""
    reviewers = policy.review.reviewers if policy else {}
    found: list[VerifiedRunEnvelope] = []
    for key, text in db.execute("select key, envelope from signatures where digest = ?", (digest,)).fetchall():
        names = {name: listed for name, listed in reviewers.items() if listed == key} or {"": key}
        with suppress(InsituError):  # altered on the disk: then it is nobody's word
            verified = open_run_envelope(parse_envelope(json.loads(text)), reviewers=names)
            if verified.digest == digest:
                found.append(verified)
    return found
