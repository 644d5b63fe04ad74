"""What the hub says should be, made so: attempts started, cancelled, forgotten. Level-triggered.

Repeating a reply changes nothing. An attempt is told apart by job, attempt and
fencing number; one with an older number than this site has seen is ignored.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from insitu.agent.attempts import AttemptRunner
from insitu.agent.site import Site
from insitu.agent.store import AttemptRow
from insitu.domain.jobs import JobState
from insitu.wire.sync import Assignment, AttemptReport

AttemptKey = tuple[str, int]


class Assignments:
    """The attempts of this site and the threads that walk them."""

    def __init__(self, site: Site, *, changed: Callable[[], None]) -> None:
        self._site, self._changed = site, changed
        self._lock = threading.Lock()
        self._runners: dict[AttemptKey, AttemptRunner] = {}

    def resume(self) -> None:
        """After a start: go on with every attempt that is not over. A held one looks for a verdict, then waits."""
        for row in self._site.store.open_attempts():
            self._run(row)

    def apply(self, assignments: Iterable[Assignment], over: Iterable[str]) -> bool:
        """Make the hub's wishes true; True when there was an attempt that is new here."""
        fresh = False
        for wish in assignments:
            envelope = wish.envelope.model_dump(mode="json")
            row = self._site.store.put_assignment(wish.job_id, wish.attempt, wish.fence, envelope)
            if row is not None:
                fresh = True
                self._end_older(wish)
                self._run(row)
            if wish.cancel:
                self._cancel(wish)
        for job_id in over:
            self._forget(job_id)
        return fresh

    def wake(self, job_id: str, attempt: int) -> None:
        """A verdict has come for a held attempt: walk on."""
        row = self._site.store.attempt(job_id, attempt)
        if row is not None and not row.over:
            self._run(row)

    def reports(self) -> list[AttemptReport]:
        """What this site holds: its presence in a report acknowledges an assignment."""
        with self._lock:
            runners = dict(self._runners)
        reports = []
        for row in self._site.store.open_attempts():
            runner = runners.get(row.key)
            acked = runner.acked if runner else row.acked
            reports.append(
                AttemptReport(job_id=row.job_id, attempt=row.attempt, fence=row.fence, state=row.state, last_seq=acked)
            )
        return reports

    def running(self) -> int:
        with self._lock:
            return sum(runner.thread.is_alive() for runner in self._runners.values())

    def detach(self) -> None:
        """The agent stops. Sandboxes go on; the next start adopts them."""
        with self._lock:
            runners = list(self._runners.values())
        for runner in runners:
            runner.detach()
        for runner in runners:
            runner.thread.join(timeout=5)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _run(self, row: AttemptRow) -> None:
        with self._lock:
            before = self._runners.get(row.key)
            if before is not None and before.thread.is_alive():
                return
            runner = AttemptRunner(self._site, row, changed=self._changed)
            self._runners[row.key] = runner
        runner.start()

    def _cancel(self, wish: Assignment) -> None:
        with self._lock:
            runner = self._runners.get((wish.job_id, wish.attempt))
        if runner is not None and runner.thread.is_alive():
            runner.cancel()
            return
        row = self._site.store.attempt(wish.job_id, wish.attempt)
        if row is not None and not row.over:
            self._site.store.set_cancel(*row.key)
            row.cancel = True
            self._run(row)

    def _end_older(self, wish: Assignment) -> None:
        """A newer fencing number: whatever an older attempt of the job still does is void."""
        with self._lock:
            older = [r for key, r in self._runners.items() if key[0] == wish.job_id and key[1] != wish.attempt]
        for runner in older:
            runner.cancel()

    def _forget(self, job_id: str) -> None:
        """The hub has the job as final and this site hasn't: nothing of it is wanted any more."""
        for row in self._site.store.open_attempts():
            if row.job_id != job_id:
                continue
            with self._lock:
                runner = self._runners.get(row.key)
            if runner is not None and runner.thread.is_alive():
                runner.cancel()
            elif row.state is JobState.HELD:
                self._site.store.set_over(*row.key)
