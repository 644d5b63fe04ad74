"""What an attempt tells the hub: numbered, on disk, in the ledger, and only then sent.

    gate's events ─┐
    the agent's own ┴► journal (numbers) ─► ledger entry (one per batch) ─► hub ─► acknowledged

The journal is a file of JSON lines per attempt, so what happened while the hub
was away arrives later, once and in order. A batch is fixed by its ledger entry:
when sending fails it is that batch which is sent again.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from insitu.agent.hub_link import HubLink
from insitu.agent.ledger import Ledger
from insitu.agent.spare_threads import SpareThreads
from insitu.agent.store import Store
from insitu.domain.digests import digest_of
from insitu.domain.errors import AuthenticationError, InsituError, UnavailableError, UnreachableError
from insitu.wire.events import channel_of
from insitu.wire.ledger import GENESIS, LedgerEntry

_BATCH_EVENTS = 500
_BATCH_GAP_S = 0.2  # between batches, in the long run
_BURST = 8  # batches that may go at once after a pause, so that a first line is seen at once
_COMPANY_S = 0.15  # a state waits so long for what follows it; a line or a metric goes at once, and takes it along
_REMEMBER_S = 1.0  # between two notes of what the hub holds: one that is lost means sending again what it has
_RETRY_S = 2.0
_NUMBER_BYTES = 18  # `,"seq":` and up to 11 digits: an upper bound, so that a budget is never overdrawn
_FINAL = re.compile(rb'"state":"(?:succeeded|failed|cancelled|refused|held)"')
_FREE_KINDS = frozenset({"state", "staging", "kept", "decision"})  # closed schema: no text of the job's own


@dataclass(frozen=True)
class About:
    """Whom and what an attempt's ledger entries name."""

    job_id: str
    attempt: int
    fence: int
    datasets: tuple[str, ...]
    submitter: str
    policy_version: int


@dataclass(frozen=True)
class _Line:
    """One journalled event as it will be sent."""

    seq: int
    kind: str  # as it is counted
    raw: bytes


class AttemptStream:
    """The way of one attempt's events to the hub. `add` returns when they are in the journal file."""

    def __init__(
        self,
        path: Path,
        about: About,
        *,
        store: Store,
        ledger: Ledger,
        link: HubLink,
        may_spend: Callable[[About, int], bool],
        has_policy: Callable[[], bool],
        clock: Callable[[], datetime],
        acked: int,
        threads: SpareThreads,
    ) -> None:
        self._about, self._store, self._ledger, self._link = about, store, ledger, link
        self._may_spend, self._has_policy, self._clock = may_spend, has_policy, clock
        self._lock = threading.Condition()
        self._waiting: deque[_Line] = deque()
        self._pending_bytes = 0  # of those in waiting that count against a budget
        self._ledgered: deque[tuple[LedgerEntry, list[_Line]]] = deque()
        """Batches that have their entry and no acknowledgement yet, oldest first; they are sent as they are."""
        self._remembered_at = 0.0
        self._due = 0.0  # when the next batch would go if all went evenly (the generic cell rate algorithm)
        self._closing = False
        self._stopped = False
        self.dropped: Counter[str] = Counter()
        self.refused: InsituError | None = None
        self.intake_offset = 0
        self._acked = acked
        self._next_seq = 1
        self._load(path)
        self._file = path.open("ab", buffering=0)
        self._thread = threads.run(self._send_loop, name=f"stream-{about.job_id}")

    # -- in ------------------------------------------------------------------------------------------------------------

    def add(self, events: Iterable[dict[str, Any]], *, intake_offset: int | None = None) -> None:
        """Number events and journal them. What the budget has no room for stays, counted by kind."""
        with self._lock:
            if intake_offset is not None:
                self.intake_offset = intake_offset
            lines = self._number(self._affordable([_as_event(event, self._clock) for event in events]))
            if not lines:
                return
            tail = b"\t%d\n" % self.intake_offset
            self._file.write(b"".join(line.raw + tail for line in lines))
            self._waiting.extend(lines)
            self._pending_bytes += sum(_weight(line) for line in lines)
            self._lock.notify_all()

    def _affordable(self, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those for which there is room; one look at the budget for all of them, if there is room for all."""
        weights = [0 if event["kind"] in _FREE_KINDS else len(_dump(event)) + _NUMBER_BYTES for event in events]
        if sum(weights) == 0 or self._may_spend(self._about, self._pending_bytes + sum(weights)):
            return events
        kept: list[dict[str, Any]] = []
        more = 0
        for event, weight in zip(events, weights, strict=True):
            if weight and not self._may_spend(self._about, self._pending_bytes + more + weight):
                self.dropped[event["kind"]] += 1
                continue
            more += weight
            kept.append(event)
        return kept

    def _number(self, events: list[dict[str, Any]]) -> list[_Line]:
        first = self._next_seq
        self._next_seq += len(events)
        return [_Line(seq, channel_of(event), _dump({**event, "seq": seq})) for seq, event in enumerate(events, first)]

    def drain(self, timeout_s: float | None = None) -> bool:
        """Wait until the hub holds everything that was added; False if it took too long."""
        with self._lock:
            return self._lock.wait_for(lambda: self._stopped or self._is_empty(), timeout_s) and self._is_empty()

    def _is_empty(self) -> bool:
        return not self._waiting and not self._ledgered

    @property
    def acked(self) -> int:
        return self._acked

    @property
    def pause_s(self) -> float:
        """How long it is until the next batch may go; 0 unless there were many at once."""
        return max(0.0, self._due - _BURST * _BATCH_GAP_S - time.monotonic())

    def close(self) -> None:
        """Stop sending. What is in the journal stays there for the next start."""
        with self._lock:
            self._closing = True
            self._lock.notify_all()
        self._thread.join(timeout=35)
        self._remember()
        self._file.close()

    # -- after a restart -----------------------------------------------------------------------------------------------

    def _load(self, path: Path) -> None:
        if not path.exists():
            return
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            os.truncate(path, whole)  # torn by a crash; it was never in the ledger, so never sent
        lines: list[_Line] = []
        for row in data[:whole].splitlines():
            raw, _, offset = row.rpartition(b"\t")
            event = json.loads(raw)
            lines.append(_Line(event["seq"], channel_of(event), raw))
            self.intake_offset = int(offset)
        if lines:
            self._next_seq = lines[-1].seq + 1
        unsent = deque(line for line in lines if line.seq > self._acked)
        for entry in self._ledger.batches_of(self._about.job_id, self._about.attempt):
            if entry.last_seq > self._acked:
                # Ledgered before the crash, perhaps sent: these very batches go first.
                batch = [unsent.popleft() for _ in range(sum(line.seq <= entry.last_seq for line in unsent))]
                self._ledgered.append((entry, batch))
        self._waiting.extend(unsent)
        self._pending_bytes = sum(_weight(line) for line in unsent)

    # -- out -----------------------------------------------------------------------------------------------------------

    def _send_loop(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._closing or not self._is_empty())
                if self._closing:
                    self._stop()
                    return
                pause = self.pause_s
                if pause > 0 and not self._ledgered and len(self._waiting) < _BATCH_EVENTS:
                    self._lock.wait_for(lambda: self._closing or len(self._waiting) >= _BATCH_EVENTS, pause)
                self._await_company()
            self._due = max(self._due, time.monotonic()) + _BATCH_GAP_S
            if not self._try_to_send():
                return

    def _await_company(self) -> None:
        """Let states that come in quick succession go together: a job's start is no time for four requests."""
        if not self._ledgered and self._passing():
            self._lock.wait_for(lambda: self._closing or not self._passing(), _COMPANY_S)

    def _passing(self) -> bool:
        return all(line.kind == "state" and not _FINAL.search(line.raw) for line in self._waiting)

    def _try_to_send(self) -> bool:
        """Send one batch; False when the hub refuses this attempt for good."""
        try:
            self._send_one()
        except (UnreachableError, UnavailableError, AuthenticationError):
            # Away, a full disk, or a clock that is off: kept here, tried again.
            with self._lock:
                self._lock.wait_for(lambda: self._closing, _RETRY_S)
        except InsituError as exc:
            # An older fence: another attempt holds the job, and this result is dropped, as it must be.
            with self._lock:
                self.refused = exc
                self._waiting.clear()
                self._ledgered.clear()
                self._stop()
            return False
        return True

    def _stop(self) -> None:
        self._stopped = True
        self._lock.notify_all()

    def _send_one(self) -> None:
        if not self._ledgered and not self._enter_batch():
            return
        entry, lines = self._ledgered[0]
        if entry.size_bytes:
            self._check_policy()
        acked = self._link.send_events(self._body(entry, lines))
        with self._lock:
            self._acked = max(self._acked, acked, lines[-1].seq if lines else 0)
            while self._ledgered and self._ledgered[0][0].last_seq <= self._acked:
                self._ledgered.popleft()
            self._lock.notify_all()
        if time.monotonic() - self._remembered_at > _REMEMBER_S:
            self._remember()

    def _enter_batch(self) -> bool:
        """Take what waits, and write its ledger entry; only then may it be sent. False: nothing waits."""
        with self._lock:
            lines = list(islice(self._waiting, _BATCH_EVENTS))
        if not lines:
            return False
        if any(_weight(line) for line in lines):
            self._check_policy()
        os.fdatasync(self._file.fileno())
        entry = self._ledger.append(self._batch_entry(lines))
        with self._lock:
            for line in lines:
                self._waiting.popleft()
                self._pending_bytes -= _weight(line)
            self._ledgered.append((entry, lines))
        return True

    def _check_policy(self) -> None:
        """Broken denies, also what was decided before and has not left yet: it waits.

        Raises:
            UnavailableError: this site has no readable policy now.
        """
        if not self._has_policy():
            raise UnavailableError("this site has no readable policy, so nothing leaves", code="no-policy")

    def _body(self, entry: LedgerEntry, lines: list[_Line]) -> bytes:
        """An `EventBatch` of events that are JSON already."""
        head = {
            "job_id": self._about.job_id,
            "attempt": self._about.attempt,
            "fence": self._about.fence,
            "entry": entry.seq,
            "size_bytes": entry.size_bytes,
        }
        return _dump(head)[:-1] + b',"events":[' + b",".join(line.raw for line in lines) + b"]}"

    def _remember(self) -> None:
        """Note what the hub holds, so that a later start need not send it again."""
        self._remembered_at = time.monotonic()
        self._store.set_acked(self._about.job_id, self._about.attempt, self._acked)

    def _batch_entry(self, lines: list[_Line]) -> LedgerEntry:
        sizes: Counter[str] = Counter()
        for line in lines:
            if line.kind not in _FREE_KINDS:
                sizes[line.kind] += _weight(line)
        return LedgerEntry(
            seq=0,
            at=self._clock(),
            kind="batch",
            job_id=self._about.job_id,
            attempt=self._about.attempt,
            name="events",
            datasets=list(self._about.datasets),
            submitter=self._about.submitter,
            decision="released",
            rule="declared",
            counts=dict(Counter(line.kind for line in lines)),
            sizes=dict(sizes),
            size_bytes=sizes.total(),
            digest=digest_of(b"\n".join(line.raw for line in lines)),
            first_seq=lines[0].seq,
            last_seq=lines[-1].seq,
            policy_version=self._about.policy_version,
            prev=GENESIS,
        )


def _as_event(event: dict[str, Any], clock: Callable[[], datetime]) -> dict[str, Any]:
    """Times of ours are whole seconds: what a script does between two of them is nobody's business."""
    return event if "at" in event else {**event, "at": clock().replace(microsecond=0).isoformat()}


def _dump(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _weight(line: _Line) -> int:
    """What a line counts against budgets: its own JSON, with a fixed room for its number."""
    return 0 if line.kind in _FREE_KINDS else len(line.raw)
