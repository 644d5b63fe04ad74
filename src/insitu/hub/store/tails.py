"""What was just written to the streams that somebody follows, in memory.

Whoever follows a job waits for its next line; reading back what this very process
has just committed would be the longest part of that wait. So the last batches of a
followed stream are kept here as they were stored. It is never needed: where
something lacks, since another process wrote it or it is too long ago, the database
has it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

_MOST_BATCHES = 4  # of one stream: who is further behind reads the database


class StoredBatch(NamedTuple):
    """One row of a stream: the cursor of its first event, whose attempt it is, and a JSON list of events."""

    first_cursor: int
    attempt: int
    payload: bytes


@dataclass
class _Tail:
    followers: int = 0
    batches: deque[StoredBatch] = field(default_factory=lambda: deque[StoredBatch](maxlen=_MOST_BATCHES))


class Tails:
    """The ends of followed streams. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: dict[str, _Tail] = {}

    @contextmanager
    def follow(self, job_id: str) -> Generator[None]:
        """While this is held, what is written to that job's stream is kept."""
        with self._lock:
            self._of.setdefault(job_id, _Tail()).followers += 1
        try:
            yield
        finally:
            with self._lock:
                tail = self._of[job_id]
                tail.followers -= 1
                if not tail.followers:
                    del self._of[job_id]

    def put(self, job_id: str, batch: StoredBatch) -> None:
        """It was committed. Nobody follows: nothing is kept."""
        with self._lock:
            tail = self._of.get(job_id)
            if tail is not None:
                tail.batches.append(batch)

    def starting_at(self, job_id: str, cursor: int) -> StoredBatch | None:
        """The batch whose first event has that cursor, if it is here."""
        with self._lock:
            tail = self._of.get(job_id)
            return next((one for one in tail.batches if one.first_cursor == cursor), None) if tail else None
