"""Wakes whoever waits for a topic: long polls, followers of a job, loops.

A bell carries no message: who hears it looks at the database. To miss nothing,
`mark` before looking and wait for what rings after that mark. It is rung from any
thread, after the commit.

Who waits in the event loop can leave an errand: then the thread that rings looks for
them. That saves a long poll two changes of threads between the commit and its answer.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, TypeVar

_MOST_TOPICS = 10_000
"""Each job is one. What is not remembered any more counts as having rung: who waits looks once too often."""

_NOTHING_RINGS = "pause"

Found = TypeVar("Found")
Waiter = asyncio.Future[Any]
_Errand = Callable[[], object]


class Bell:
    """Counts rings for each topic, and wakes threads and coroutines that wait for one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # One for each topic that a thread waits for: a ring for one of them must not wake all the others' threads.
        self._sleepers: dict[str, threading.Condition] = {}
        self._rings: dict[str, int] = {}
        self._forgotten = 0
        """What topics count that are in no memory; more than any that was forgotten."""
        self._waiters: defaultdict[str, dict[Waiter, _Errand | None]] = defaultdict(dict)
        """Who waits in the event loop, and what they left to be done for them."""
        self._due: deque[tuple[Waiter, _Errand]] = deque()
        """Errands whose topic has rung."""
        self._closed = False

    @property
    def closed(self) -> bool:
        """The hub is stopping: waits end at once, and nobody should wait again."""
        return self._closed

    def ring(self, topic: str) -> None:
        """Wake who waits for `topic`, and do the errands that are due."""
        self.announce(topic)
        self.do_errands()

    def announce(self, topic: str) -> None:
        """Wake who waits for `topic`. Errands become due: whoever announces does them once nobody waits for something else."""
        with self._lock:
            if len(self._rings) >= _MOST_TOPICS:
                self._forgotten = max(self._rings.values()) + 1
                self._rings.clear()
            self._rings[topic] = self._count(topic) + 1
            waiters = self._waiters.pop(topic, {})
            self._due.extend((waiter, errand) for waiter, errand in waiters.items() if errand is not None)
            if topic in self._sleepers:
                self._sleepers[topic].notify_all()
        for waiter, errand in waiters.items():
            if errand is None:
                _wake(waiter)

    def do_errands(self) -> None:
        """Do what is due, in this thread. Hold nothing meanwhile that an errand could wait for."""
        while True:
            try:
                waiter, errand = self._due.popleft()
            except IndexError:
                return
            if waiter.done():
                continue
            try:
                found = errand()
            except BaseException as exc:  # noqa: BLE001 - theirs, who left the errand
                _call(waiter, _fail, exc)
            else:
                _call(waiter, _give, found)

    def mark(self, topic: str) -> int:
        """How often it has rung, to be handed to a wait."""
        with self._lock:
            return self._count(topic)

    def _count(self, topic: str) -> int:
        return self._rings.get(topic, self._forgotten)

    def wait(self, topic: str, mark: int, timeout_s: float) -> None:
        """Return when it has rung since `mark`, the bell is closed, or time is up."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            changed = self._sleepers.setdefault(topic, threading.Condition(self._lock))
            while not self._closed and self._count(topic) == mark:
                left = deadline - time.monotonic()
                if left <= 0 or not changed.wait(left):
                    return

    def pause(self, timeout_s: float) -> None:
        """Return when time is up, or the bell is closed."""
        self.wait(_NOTHING_RINGS, self.mark(_NOTHING_RINGS), timeout_s)

    def future(self, topic: str, mark: int) -> asyncio.Future[None]:
        """Done when it has rung since `mark` or the bell is closed. `forget` it when nobody waits any more."""
        return self._wait_in_loop(topic, mark, None)

    def errand(self, topic: str, mark: int, do: Callable[[], Found]) -> asyncio.Future[Found | None]:
        """As `future`, but done with what `do` returned or raised in the thread that rang.

        None: it has rung already, or the bell is closed, so nobody did it.
        """
        return self._wait_in_loop(topic, mark, do)

    def _wait_in_loop(self, topic: str, mark: int, errand: _Errand | None) -> asyncio.Future[Any]:
        waiter: Waiter = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._closed or self._count(topic) != mark:
                waiter.set_result(None)
            else:
                self._waiters[topic][waiter] = errand
        return waiter

    def forget(self, topic: str, waiter: Waiter) -> None:
        with self._lock:
            waiters = self._waiters.get(topic)
            if waiters is not None:
                waiters.pop(waiter, None)
                if not waiters:
                    del self._waiters[topic]
        waiter.cancel()

    def waiting(self, topic: str) -> int:
        """How many in the event loop wait for it."""
        with self._lock:
            return len(self._waiters.get(topic, ()))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            waiters = [waiter for group in self._waiters.values() for waiter in group]
            self._waiters.clear()
            for changed in self._sleepers.values():
                changed.notify_all()
        for waiter in waiters:
            _wake(waiter)


def _wake(waiter: Waiter) -> None:
    _call(waiter, _give, None)


def _call(waiter: Waiter, settle: Callable[[Waiter, Any], None], value: object) -> None:
    """Settle a future of the event loop from any thread."""
    loop = waiter.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(settle, waiter, value)


def _give(waiter: Waiter, found: object) -> None:
    if not waiter.done():
        waiter.set_result(found)


def _fail(waiter: Waiter, why: BaseException) -> None:
    if not waiter.done():
        waiter.set_exception(why)
