"""Workers who take tasks from one line: a few, and more of them while the machine's processors have nothing to do.

Who fetches from a store nearby keeps a processor busy, and more workers than those
would only push each other's bytes out of its cache. Who fetches from far away waits,
and then each further worker brings more.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from insitu.domain.errors import ConflictError

Task = Callable[[], None]

_STAT = Path("/proc/stat")
_LOOK_S = 0.1
_IDLE = 0.25
"""Of the processors' time: with less than that to spare, more workers are of no use."""


class StoppedError(ConflictError):
    """Somebody said stop in the middle: the job was cancelled, or the agent ends. What is here stays for next time."""

    default_code = "staging-stopped"


def do_all(
    tasks: Iterator[Task],
    *,
    stop: Callable[[], bool],
    ending: threading.Event,
    most: int,
    idle: Callable[[], float] | None = None,
) -> None:
    """Do all tasks, several at once. The first failure is raised, and ends the others.

    Args:
        ending: set when one has failed, for those that take long.
        most: workers at once.
        idle: which part of the processors' time nobody used since it was asked last.
    """
    idle = idle or Idle()
    line = _Line(tasks, stop, ending)
    workers = [line.begin() for _ in range(min(most, at_least()))]
    for worker in workers:
        while worker.is_alive():
            worker.join(_LOOK_S)
            if worker.is_alive() and len(workers) < most and idle() > _IDLE:
                workers.append(line.begin())
    if line.failures:
        raise line.failures[0]


def at_least() -> int:
    """How many begin: one for each processor, and one who waits for the store meanwhile."""
    return len(os.sched_getaffinity(0)) + 1


class Idle:
    """Which part of the time of all processors nobody used, between one call and the next. proc(5), /proc/stat.

    0.0 where the machine does not tell, so that few work there.
    """

    def __init__(self) -> None:
        self._before = self._look()

    def __call__(self) -> float:
        (idle_before, all_before), (idle, all_) = self._before, self._look()
        self._before = idle, all_
        return (idle - idle_before) / (all_ - all_before) if all_ > all_before else 0.0

    def _look(self) -> tuple[int, int]:
        try:
            with _STAT.open() as stat:
                times = [int(part) for part in stat.readline().split()[1:9]]
        except (OSError, ValueError):
            return 0, 0
        return times[3] + times[4], sum(times)  # idle, and waiting for a disk


@dataclass
class _Line:
    """Tasks that wait, and workers who take them."""

    tasks: Iterator[Task]
    stop: Callable[[], bool]
    ending: threading.Event
    failures: list[BaseException] = field(default_factory=list[BaseException])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> threading.Thread:
        """One worker more."""
        worker = threading.Thread(target=self._work, name="stage", daemon=True)
        worker.start()
        return worker

    def _work(self) -> None:
        while (task := self._next()) is not None:
            try:
                task()
            except BaseException as exc:  # noqa: BLE001 - raised again where the work was asked for
                self.failures.append(exc)
                self.ending.set()

    def _next(self) -> Task | None:
        with self._lock, suppress(StopIteration):
            if self.failures:
                return None
            if self.stop():
                self.failures.append(StoppedError("staging was stopped"))
                return None
            try:
                return next(self.tasks)
            except StopIteration:
                raise
            except BaseException as exc:  # noqa: BLE001 - as above
                self.failures.append(exc)
        return None
