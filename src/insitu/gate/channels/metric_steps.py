"""Step numbers are a channel of their own: of twenty-three bits a value, if nobody looks.

Training loops count: by one, by ten, by the batches of an epoch. So a step may
repeat the one before it (of the same name in the same run), go on by a stride
that the job has used already, or begin anew where the name began. A job has few
strides; what would need one more stays at the site.
"""

from __future__ import annotations

from math import log2

_MAX_STEP = 10_000_000
_MOST_STRIDES = 12
_MOST_SERIES = 100_000


class StepGate:
    """The steps of one job's metrics, in order of time."""

    bits = log2(_MOST_STRIDES + 2)
    """What the choice of one step can tell, once the strides are known."""

    def __init__(self) -> None:
        self._strides: set[int] = {0, 1}
        self._series: dict[tuple[str, str], tuple[int, int]] = {}  # run and name → first step, last step

    def objection_to(self, run: str, name: str, step: int) -> str:
        """The rule that keeps a value of this step; empty if it may leave, and `leaves` is to be told."""
        if not 0 <= step <= _MAX_STEP:
            return "step-range"
        first, last = self._series.get((run, name), (0, 0))
        if step in {first, last} or step - last in self._strides:
            return ""
        if step < last or len(self._strides) >= _MOST_STRIDES:
            return "step-pattern"
        return ""

    def leaves(self, run: str, name: str, step: int) -> None:
        first, last = self._series.get((run, name), (step, 0))
        if step > last:
            self._strides.add(step - last)
        if len(self._series) < _MOST_SERIES or (run, name) in self._series:
            self._series[run, name] = (first, step)
