"""What the steps of one attempt share, and what a step answers."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from insitu.agent.catalogue import DatasetVersion, find_dataset
from insitu.agent.direct.feed_server import FeedServer
from insitu.agent.newer_policy import SecondLook
from insitu.agent.site import Site
from insitu.agent.store import AttemptRow
from insitu.agent.stream import About, AttemptStream
from insitu.agent.workspace import Workspace
from insitu.domain.errors import DeniedError, InsituError
from insitu.domain.jobs import FailureClass, JobState
from insitu.gate.policy.loading import Policy
from insitu.intake.client import IntakeHandle
from insitu.sandbox.keeper_pool import KeeperHandle
from insitu.wire.jobs import VerifiedJob


@dataclass(frozen=True)
class Next:
    """Where a step leads, and what the hub may hear about it: words of ours only."""

    state: JobState
    details: dict[str, Any] = field(default_factory=dict)
    event: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def refused(cls, error: DeniedError) -> Next:
        return cls(JobState.REFUSED, event=_shareable(error))

    @classmethod
    def failed(cls, failure: FailureClass, error: InsituError) -> Next:
        return cls(JobState.FAILED, event={"failure": failure.value, **_shareable(error)})


def _shareable(error: InsituError) -> dict[str, str]:
    """The parts of an error that may leave: those that we wrote, without `why`, which may quote the machine."""
    fields = error.as_dict()
    return {key: fields.get(key, "")[:200] for key in ("code", "what", "rule", "measure", "limit", "hint")}


@dataclass
class Attempt:
    """What the steps of one attempt share."""

    site: Site
    row: AttemptRow
    job: VerifiedJob | None
    denied: InsituError | None
    workspace: Workspace
    stream: AttemptStream
    about: About
    cancelled: threading.Event
    detached: threading.Event
    uid: int | None = None  # of the job's code, at this machine
    keeper: KeeperHandle | None = None
    intake: IntakeHandle | None = None
    feed: FeedServer | None = None
    second_look: SecondLook | None = None
    events_wait: bool = False  # for a policy that can be read
    disk_problem: InsituError | None = None  # what the sandbox was ended for, when it took too much of the disk
    gather_s: float = 0.0  # how long more of the gate's events were waited for the last time; 0: after a pause
    gate_lost: bool = False  # the gate's process of this attempt is gone for good

    @property
    def verified(self) -> VerifiedJob:
        """The job; only asked for once `accept` has let it in."""
        if self.job is None:
            raise self.denied or DeniedError("the job is not signed", code="unknown-signer")
        return self.job

    @property
    def run_envelope(self) -> str:
        """Digest of the run envelope that covers this job, as last asked; empty when none does."""
        return str(self.row.details.get("run_envelope", ""))

    def policy_now(self) -> Policy | None:
        """The site's policy as it is for this job; None when there is none that can be read."""
        current = self.site.policy.current()
        return current and current.for_code(approved=bool(self.run_envelope))

    def advance(self, outcome: Next) -> None:
        """Say where the attempt is, then record it. Said twice is harmless; recorded and never said is not."""
        self.stream.add([{"kind": "state", "state": outcome.state.value, **outcome.event}])
        self.site.store.save_state(self.row, outcome.state, last_event=outcome.event, **outcome.details)

    def announce(self) -> None:
        self.stream.add([{"kind": "state", "state": self.row.state.value, **self.row.details.get("last_event", {})}])

    def stop_feed(self) -> None:
        if self.feed is not None:
            self.feed.stop()
            self.feed = None

    def stop_sandbox(self) -> None:
        if self.keeper is not None:
            self.keeper.stop()

    @property
    def datasets(self) -> list[tuple[str, DatasetVersion]]:
        """(input's name, dataset version) for each dataset of the job."""
        folder = self.site.folder
        return [(pin.input, find_dataset(folder, pin.name, pin.version)) for pin in self.verified.document.datasets]
