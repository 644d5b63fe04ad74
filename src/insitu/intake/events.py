"""The append-only file of decided events: numbered from 1 without a gap, one JSON object a line.

Lines are valid by construction: each is an event of `insitu.wire.events`, or what that would have written. They
become visible in whole batches, by one `write`. A write that did not do all it
was asked is undone, and then nothing more is appended: the file ends with a
whole line, whatever happens to this process. Nothing is flushed to the disk
here; the agent does that before its ledger entry.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from insitu.domain.errors import UnavailableError
from insitu.wire.events import KeptEvent, LogEvent, ParamEvent, RunEvent, TagEvent
from insitu.wire.plain_metrics import metric_line

DecidedEvent = ParamEvent | TagEvent | RunEvent | LogEvent | KeptEvent


class EventLog:
    """Appends events and tells how far it has come. `flush` after each call or chunk of a stream.

    Args:
        path: made, if it is not here; it must be empty, and nobody else's: a file of events is never taken up by a
            second process.
        most: events in all. `has_room` says whether one more may be appended.
        clock: aware UTC.
        on_growth: told the last sequence number after each flush that wrote something.

    Raises:
        FileExistsError: it holds events, or another process has it.
    """

    def __init__(
        self, path: Path, *, most: int, clock: Callable[[], datetime], on_growth: Callable[[int], None]
    ) -> None:
        self._fd = _open_own(path)
        self._size_bytes = 0
        self._pending: list[str] = []
        self._clock = clock
        self._on_growth = on_growth
        self._most = most
        self._broken = False
        self.seq = 0
        self.counts: Counter[str] = Counter()

    @property
    def has_room(self) -> bool:
        return self.seq < self._most

    def append_metric(self, *, run: str, key: str, value: float, step: int) -> None:
        """As `append`, of a metric: most events are, and a script waits for each."""
        self._pending.append(metric_line(seq=self.seq + 1, at=self._clock(), run=run, key=key, value=value, step=step))
        self.seq += 1
        self.counts["metric"] += 1

    def append(self, make: Callable[[int, datetime], DecidedEvent]) -> None:
        """Append what `make` builds from the next number and the time. Visible after `flush`."""
        event = make(self.seq + 1, self._clock())
        self._pending.append(event.model_dump_json())
        self.seq += 1
        self.counts[event.kind] += 1

    def flush(self) -> None:
        """Make what was appended visible.

        Raises:
            UnavailableError: the disk took less than it was given. Nothing of this batch is in the file.
        """
        if not self._pending:
            return
        if self._broken:
            raise UnavailableError("the file of events could not be written earlier", code="events-file")
        data = ("\n".join(self._pending) + "\n").encode()
        try:
            written = os.write(self._fd, data)
        except OSError as exc:
            raise self._undo() from exc
        if written != len(data):
            raise self._undo()
        self._pending.clear()
        self._size_bytes += written
        self._on_growth(self.seq)

    def _undo(self) -> UnavailableError:
        self._broken = True
        os.ftruncate(self._fd, self._size_bytes)
        return UnavailableError(
            "the file of events could not be written", code="events-file", hint="look for a full disk"
        )

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _open_own(path: Path) -> int:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until this process ends
        is_empty = os.fstat(fd).st_size == 0
    except BlockingIOError:
        is_empty = False
    if not is_empty:
        os.close(fd)
        raise FileExistsError(errno.EEXIST, "another process has this file of events, or had it", str(path))
    return fd
