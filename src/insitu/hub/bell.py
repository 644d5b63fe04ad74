"""Wakes whoever waits for a topic: long polls, followers of a job, loops.

A bell carries no message: who hears it looks at the database. To miss nothing,
`mark` before looking and wait for what rings after that mark. It is rung from any
thread, after the commit.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict


class Bell:
    """Counts rings for each topic, and wakes threads and coroutines that wait for one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # One for each topic that a thread waits for: a ring for one of them must not wake all the others' threads.
        self._sleepers: dict[str, threading.Condition] = {}
        self._rings: dict[str, int] = {}
        self._waiters: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._closed = False

    @property
    def closed(self) -> bool:
        """The hub is stopping: waits end at once, and nobody should wait again."""
        return self._closed

    def ring(self, topic: str) -> None:
        with self._lock:
            self._rings[topic] = self._rings.get(topic, 0) + 1
            waiters = self._waiters.pop(topic, set())
            if topic in self._sleepers:
                self._sleepers[topic].notify_all()
        for waiter in waiters:
            _wake(waiter)

    def mark(self, topic: str) -> int:
        """How often it has rung, to be handed to a wait."""
        with self._lock:
            return self._rings.get(topic, 0)

    def wait(self, topic: str, mark: int, timeout_s: float) -> None:
        """Return when it has rung since `mark`, the bell is closed, or time is up."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            changed = self._sleepers.setdefault(topic, threading.Condition(self._lock))
            while not self._closed and self._rings.get(topic, 0) == mark:
                left = deadline - time.monotonic()
                if left <= 0 or not changed.wait(left):
                    return

    def future(self, topic: str, mark: int) -> asyncio.Future[None]:
        """Done when it has rung since `mark` or the bell is closed. `forget` it when nobody waits any more."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._closed or self._rings.get(topic, 0) != mark:
                waiter.set_result(None)
            else:
                self._waiters[topic].add(waiter)
        return waiter

    def forget(self, topic: str, waiter: asyncio.Future[None]) -> None:
        with self._lock:
            waiters = self._waiters.get(topic)
            if waiters is not None:
                waiters.discard(waiter)
                if not waiters:
                    del self._waiters[topic]
        waiter.cancel()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            waiters = [waiter for group in self._waiters.values() for waiter in group]
            self._waiters.clear()
            for changed in self._sleepers.values():
                changed.notify_all()
        for waiter in waiters:
            _wake(waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    def set_result() -> None:
        if not waiter.done():
            waiter.set_result(None)

    loop = waiter.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(set_result)
