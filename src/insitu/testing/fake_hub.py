"""A hub in memory, with the calls that an agent makes, which a test may make lie.

It keeps what it is sent and hands out what a test gives it. It checks nothing:
that is the point of the tests that use it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from insitu.domain.digests import Digest, digest_of
from insitu.domain.errors import NotFoundError
from insitu.wire.envelopes import Envelope
from insitu.wire.events import EventBatch
from insitu.wire.sync import SyncReply, SyncRequest


class FakeHub:
    """Stands in for `insitu.agent.hub_link.HubLink`."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.batches: list[EventBatch] = []
        self.releases: list[Envelope] = []
        self.uploads: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.reply = SyncReply(revision="1")
        self._seen: set[tuple[str, int, int]] = set()
        self._changed = threading.Condition()

    def put_blob(self, data: bytes) -> Digest:
        digest = digest_of(data)
        self.blobs[digest] = data
        return digest

    # -- what an agent calls -------------------------------------------------------------------------------------------

    def sync(self, request: SyncRequest) -> SyncReply:
        time.sleep(min(request.wait_s, 0.05))
        return self.reply

    def send_events(self, raw: bytes) -> int:
        batch = EventBatch.model_validate_json(raw)
        with self._changed:
            self.batches.append(batch)
            for event in batch.events:
                key = (batch.job_id, batch.attempt, event.seq)
                if key not in self._seen:
                    self._seen.add(key)
                    self.events.append(event)
            self._changed.notify_all()
        return batch.events[-1].seq

    def fetch_blob(self, digest: Digest, target: Path) -> None:
        self.fetched.append(digest)
        if digest not in self.blobs:
            raise NotFoundError(f"the hub has no {digest}", code="no-blob")
        target.write_bytes(self.blobs[digest])

    def upload(self, path: Path, digest: Digest) -> None:
        self.uploads[digest] = path.read_bytes()

    def send_release(self, envelope: Envelope) -> None:
        self.releases.append(envelope)

    def close(self) -> None:
        """Nothing to let go of."""

    # -- what a test asks ----------------------------------------------------------------------------------------------

    def states(self) -> list[str]:
        """The states that were told, in order, each once in a row."""
        told = [event.state.value for event in self.events if event.kind == "state"]
        return [state for index, state in enumerate(told) if index == 0 or told[index - 1] != state]

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
        """Wait until `condition` holds.

        Raises:
            AssertionError: it didn't in time; says what was told.
        """
        with self._changed:
            if not self._changed.wait_for(condition, timeout_s):
                raise AssertionError(f"waited {timeout_s} s in vain; states told: {self.states()}")
