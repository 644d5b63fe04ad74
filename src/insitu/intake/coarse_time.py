"""The times of events: whole seconds, so that a script can't say anything by the moment at which it speaks.

Events of one second follow each other by a millisecond, for whoever puts them in
order by their times. That tells how many came before, which their numbers do too.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

_LAST_MS = 999


class CoarseClock:
    """Gives each event its time. Never goes back."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._second: datetime | None = None
        self._events = 0

    def __call__(self) -> datetime:
        now = self._clock().replace(microsecond=0)
        if self._second is None or now > self._second:
            self._second, self._events = now, 0
        else:
            self._events = min(self._events + 1, _LAST_MS)
        return self._second + timedelta(milliseconds=self._events)
