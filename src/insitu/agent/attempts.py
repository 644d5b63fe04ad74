"""One attempt at a site, from assigned to over: a thread that walks the states.

Each step is a function in `steps.py` that says what comes next. The state is on
disk before it is said, so after `kill -9` the same steps go on where they were:
a running sandbox is adopted, a judgement is made again, an upload is resumed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from insitu.agent import steps
from insitu.agent.attempt import Attempt, Next
from insitu.agent.budget import spender
from insitu.agent.site import Site
from insitu.agent.spare_threads import Running
from insitu.agent.store import AttemptRow
from insitu.agent.stream import About, AttemptStream
from insitu.agent.workspace import Workspace
from insitu.domain.errors import DeniedError, InsituError
from insitu.domain.jobs import FailureClass, JobState, is_final
from insitu.wire.envelopes import Envelope
from insitu.wire.jobs import VerifiedJob, open_job

_log = logging.getLogger("insitu.agent")

_STEPS: dict[JobState, Callable[[Attempt], Next]] = {
    JobState.ASSIGNED: steps.accept,
    JobState.PREPARING: steps.prepare,
    JobState.RUNNING: steps.run,
    JobState.JUDGING: steps.judge,
    JobState.HELD: steps.review,
    JobState.RELEASING: steps.release,
}
_CANCEL_AT_ONCE = frozenset({JobState.ASSIGNED, JobState.PREPARING, JobState.HELD})  # no sandbox to stop first


class AttemptRunner:
    """Runs one attempt in a thread of its own. `cancel` and `detach` may come at any time."""

    def __init__(self, site: Site, row: AttemptRow, *, changed: Callable[[], None]) -> None:
        self._site, self._row, self._changed = site, row, changed
        self._attempt: Attempt | None = None
        self._lock = threading.Lock()
        self._detached = threading.Event()
        self._cancelled = threading.Event()
        if row.cancel:
            self._cancelled.set()
        self.thread = Running()

    @property
    def row(self) -> AttemptRow:
        return self._row

    @property
    def acked(self) -> int:
        attempt = self._attempt
        return attempt.stream.acked if attempt else self._row.acked

    def start(self) -> None:
        self._site.threads.run(self._main, name=f"{self._row.job_id}-{self._row.attempt}", running=self.thread)

    def cancel(self) -> None:
        """The hub wants it ended. Confirmed by a `cancelled` event once its processes are gone."""
        if not self._cancelled.is_set():
            self._site.store.set_cancel(*self._row.key)
            self._cancelled.set()
            self._stop_sandbox()

    def detach(self) -> None:
        """The agent stops: leave the sandbox running for the next agent to adopt."""
        self._detached.set()

    def _stop_sandbox(self) -> None:
        attempt = self._attempt
        if attempt is not None:
            attempt.stop_sandbox()

    # -- the walk ------------------------------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            self._walk()
        except Exception:  # noqa: BLE001 - said in the log; the process goes on
            # The thread must not take the agent down; the state on disk says where to go on.
            _log.exception("attempt %s-%s stopped unexpectedly", self._row.job_id, self._row.attempt)
        finally:
            self._changed()

    def _walk(self) -> None:
        attempt = self._open()
        try:
            if self._row.state not in (JobState.ASSIGNED, JobState.HELD):
                attempt.announce()  # a crash may have come between the state and its event
            while not is_final(self._row.state):
                outcome = self._step(attempt)
                if self._detached.is_set() and not is_final(outcome.state):
                    return
                if outcome.state is JobState.HELD and self._row.state is JobState.HELD:
                    break  # no verdict yet; whoever brings one wakes us
                attempt.advance(outcome)
                if attempt.stream.refused is not None:
                    break
            self._finish(attempt)
        finally:
            attempt.stop_feed()
            attempt.stream.close()

    def _step(self, attempt: Attempt) -> Next:
        if self._cancelled.is_set() and self._row.state in _CANCEL_AT_ONCE:
            return Next(JobState.CANCELLED)
        try:
            return _STEPS[self._row.state](attempt)
        except DeniedError as exc:
            return Next.refused(exc)
        except InsituError as exc:
            return Next.failed(steps.FAILURE_OF[self._row.state], exc)
        except Exception as exc:  # noqa: BLE001 - said in the log; the process goes on
            _log.exception("step %s of %s failed", self._row.state, self._row.job_id)
            return Next.failed(FailureClass.LOST, InsituError("the agent failed at this step", code=type(exc).__name__))

    def _open(self) -> Attempt:
        site, row = self._site, self._row
        job: VerifiedJob | None = None
        denied: InsituError | None = None
        try:
            job = open_job(Envelope.model_validate(row.envelope), signers=self._signers())
        except InsituError as exc:
            denied = exc
        workspace = Workspace(site.folder.jobs / f"{row.job_id}-{row.attempt}")
        site.folders.take(workspace)
        workspace.begin()
        about = About(
            job_id=row.job_id,
            attempt=row.attempt,
            fence=row.fence,
            datasets=tuple(f"{pin.name}@{pin.version}" for pin in job.document.datasets) if job else (),
            submitter=job.signer if job else "",
            policy_version=self._policy_version(),
        )
        stream = AttemptStream(
            workspace.journal,
            about,
            store=site.store,
            ledger=site.ledger,
            link=site.link,
            may_spend=spender(site.policy.current, site.ledger, site.now),
            has_policy=lambda: site.policy.current() is not None,
            clock=site.now,
            acked=row.acked,
            threads=site.threads,
        )
        self._attempt = Attempt(
            site, row, job, denied, workspace, stream, about, cancelled=self._cancelled, detached=self._detached
        )
        return self._attempt

    def _signers(self) -> dict[str, str]:
        """Who may have signed. An accepted attempt stays valid when a signer is struck off later."""
        policy = self._site.policy.current()
        listed: dict[str, str] = dict(policy.signers) if policy else {}
        accepted: dict[str, Any] = self._row.details.get("signer", {})
        return {**listed, **accepted}

    def _policy_version(self) -> int:
        policy = self._site.policy.current()
        return policy.version if policy else 0

    def _finish(self, attempt: Attempt) -> None:
        """Everything said? Then forget the workspace. Held attempts stay open, without a thread."""
        while not attempt.stream.drain(1.0):
            if self._detached.is_set() or attempt.stream.refused is not None:
                break
        if not is_final(self._row.state) and attempt.stream.refused is None:
            return
        if attempt.stream.refused is not None or attempt.stream.drain(0):
            attempt.stop_sandbox()
            self._site.store.set_over(*self._row.key)
            self._row.over = True
            steps.clean(attempt)
