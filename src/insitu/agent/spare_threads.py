"""Threads that wait for work: what starts here while somebody waits for it starts without a new thread.

Starting one takes two changes of threads and a stack; telling one that waits takes one
change. A thread that has done its work waits for the next. All are daemons: an agent
that ends does not wait for them, since its state is on disk. (An executor of the standard
library makes the process wait for each at its end, an hour-long job's among them.)
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

_log = logging.getLogger("insitu.agent")


class Running:
    """One piece of work, from before its start to its end. Named as a thread's methods are."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self.begun = False

    def is_alive(self) -> bool:
        return self.begun and not self._ended.is_set()

    def join(self, timeout: float | None = None) -> None:
        """Returns when the work has ended, time is up, or it has not begun."""
        if self.begun:
            self._ended.wait(timeout)

    def end(self) -> None:
        self._ended.set()


class _Spare:
    """A thread and what it is to do next."""

    def __init__(self, when_free: Callable[[_Spare], bool]) -> None:
        self._when_free = when_free
        self._told = threading.Semaphore(0)
        self._next: tuple[Callable[[], object], Running, str] | None = None
        self._thread = threading.Thread(target=self._main, name="spare", daemon=True)
        self._thread.start()

    def tell(self, work: Callable[[], object], running: Running, name: str) -> None:
        self._next = (work, running, name)
        self._told.release()

    def _main(self) -> None:
        free = True
        while free:
            self._told.acquire()
            assert self._next is not None
            work, running, name = self._next
            self._next = None
            self._thread.name = name
            try:
                work()
            except Exception:  # noqa: BLE001 - said in the log; the process goes on
                _log.exception("%s stopped unexpectedly", name)
            finally:
                running.end()
            del work, running
            self._thread.name = "spare"
            free = self._when_free(self)


class SpareThreads:
    """Gives work to threads that wait, a few ahead of need.

    Args:
        ahead: how many wait, from the beginning and again when work has ended. With 0 each is started for its work.
    """

    def __init__(self, ahead: int = 0) -> None:
        self._ahead = ahead
        self._lock = threading.Lock()
        self._idle = [_Spare(self._take_back) for _ in range(ahead)]

    def run(self, work: Callable[[], object], *, name: str, running: Running | None = None) -> Running:
        """Start `work` in a thread. What it raises is said in the log."""
        running = running or Running()
        running.begun = True
        with self._lock:
            spare = self._idle.pop() if self._idle else None
        (spare or _Spare(self._take_back)).tell(work, running, name)
        return running

    def _take_back(self, spare: _Spare) -> bool:
        with self._lock:
            if len(self._idle) >= self._ahead:
                return False
            self._idle.append(spare)
            return True
