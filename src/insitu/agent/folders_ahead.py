"""The empty folders of the next attempt, made while nobody waits for them.

A folder takes a file system as long as several renames, and an attempt has six. So they
lie ready where no job's are, closed to everybody else, and get their places
when a job comes. Where they are missing, as after a crash in the middle, the attempt makes
what it lacks: `Workspace.make` looks whether each is there.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

from insitu.agent.spare_threads import SpareThreads
from insitu.agent.workspace import Workspace

_FILL_AFTER_S = 0.5  # when the job that took them has said its first line


class FoldersAhead:
    """At most one attempt's folders, of one site.

    Args:
        place: where they lie until then; on the same file system as the attempts' own.
        gate_uid: whose the gate's folders are.
        threads: where the next ones are made.
    """

    def __init__(self, place: Path, *, gate_uid: int, threads: SpareThreads) -> None:
        self._ahead = Workspace(place)
        self._gate_uid, self._threads = gate_uid, threads
        self._lock = threading.Lock()
        self._ready = self._closed = False

    def close(self) -> None:
        """Make nothing any more: whoever removes the site's folder is not surprised by a new one in it."""
        with self._lock:
            self._closed = True

    def fill(self) -> None:
        """Have them ready. What hinders that is said by the attempt that has to make its own."""
        with self._lock, suppress(OSError):
            if not self._ready and not self._closed:
                self._ahead.make_ahead(gate_uid=self._gate_uid)
                self._ready = True

    def take(self, workspace: Workspace) -> None:
        """Give them to an attempt that has none yet, if they are ready."""
        with self._lock:
            if not self._ready or workspace.root.exists():
                return
            self._ready = False
            with suppress(OSError):
                self._ahead.become(workspace)
        self._threads.run(self._fill_later, name="folders")

    def _fill_later(self) -> None:
        time.sleep(_FILL_AFTER_S)
        self.fill()
