"""How many of something leave a second: so many on average, and a minute's worth at once.

A script that is done in a second logs all that it has in that second, so a plain
"so many a second" would punish the honest. What the bound is for is the long
run: it keeps a job from being a modem.
"""

from __future__ import annotations

from datetime import datetime

_BURST_S = 60


class Rate:
    """A token bucket. Time is the gate's own clock; one that steps back gives nothing."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._room = float(per_second * _BURST_S)
        self._seen: datetime | None = None

    def take(self, at: datetime) -> bool:
        """Whether one more may leave now; then it counts."""
        if self._seen is None or at > self._seen:
            if self._seen is not None:
                passed_s = (at - self._seen).total_seconds()
                self._room = min(self._per_second * _BURST_S, self._room + passed_s * self._per_second)
            self._seen = at
        if self._room < 1:
            return False
        self._room -= 1
        return True
