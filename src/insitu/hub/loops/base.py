"""What every loop is: a thread that looks, acts, and waits until something rings or time is up.

A loop that fails logs why and looks again later; it never ends the hub. With
several hub processes over PostgreSQL, one at a time does each loop's work.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from insitu.domain.errors import InsituError
from insitu.hub.parts import Parts

_log = logging.getLogger("insitu.hub")


@dataclass(frozen=True)
class Loop:
    """One thing that happens unasked."""

    name: str
    topic: str  # what wakes it
    every_s: float  # how long it waits for that at most
    step: Callable[[Parts], None]  # does everything that is due; repeating it changes nothing
    everywhere: bool = False  # each hub process does it, since it is about that process
    pause_s: float = 0.0  # once woken: what somebody waits for goes first, and all share one interpreter


class LoopThread:
    """A loop that runs until the hub's bell is closed."""

    def __init__(self, loop: Loop, parts: Parts) -> None:
        self._loop = loop
        self._parts = parts
        self._thread = threading.Thread(target=self._run, name=f"loop-{loop.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _run(self) -> None:
        bell, loop = self._parts.bell, self._loop
        while not bell.closed:
            mark = bell.mark(loop.topic)
            try:
                self._step()
            except InsituError as exc:
                _log.warning("loop %s: %s (%s)", loop.name, exc.what, exc.why)
            except Exception:  # noqa: BLE001 - whatever it was, the next round may do better
                _log.exception("loop %s failed; it goes on", loop.name)
            bell.wait(loop.topic, mark, loop.every_s)
            if loop.pause_s:
                bell.pause(loop.pause_s)

    def _step(self) -> None:
        if self._loop.everywhere:
            self._loop.step(self._parts)
            return
        with self._parts.store.turn(self._loop.name) as mine:
            if mine:
                self._loop.step(self._parts)
