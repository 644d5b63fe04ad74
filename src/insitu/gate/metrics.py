"""Which metric values leave while a job runs, and with how many digits.

Declared by name or pattern in the job's signed file; everything else is kept.
A value is rounded to the policy's significant digits, since the digits beyond
them could spell anything. A pattern lets names through that nobody has seen
before, so names are looked at as text and their number is bounded.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from insitu.domain.outputs import Verdict
from insitu.gate.known_data import KnownData
from insitu.gate.names import NameGate
from insitu.gate.policy_values import MetricRules

_MAX_STEP = 10_000_000
_NAMES_PER_PATTERN = 64
_WILD = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class MetricOutcome:
    """What becomes of one value, by which rule; `value` and `step` as they may leave."""

    verdict: Verdict
    rule: str
    value: float = 0.0
    step: int = 0

    @property
    def leaves(self) -> bool:
        return self.verdict is Verdict.RELEASED


class MetricGate:
    """The rules for one job's metrics. Counts what it lets out: ask once per value, in order of time."""

    def __init__(self, rules: MetricRules, declared: Sequence[str], known: Sequence[KnownData] = ()) -> None:
        self._rules = rules
        self._exact = frozenset(name for name in declared if not _WILD & set(name))
        self._patterns = tuple(name for name in declared if _WILD & set(name))
        self._pattern_of: dict[str, str] = {}
        self._names_of: Counter[str] = Counter()
        self._names = NameGate(known)
        self._count = 0
        self._second = 0
        self._in_second = 0

    def decide(self, key: str, value: float, step: int, at: datetime) -> MetricOutcome:
        """May this value leave? `at` is the gate's own clock, never the script's."""
        rule = self._objection_to_name(key)
        if rule:
            return MetricOutcome(Verdict.KEPT, rule)
        if not math.isfinite(value):
            return MetricOutcome(Verdict.KEPT, "not-finite")
        if not 0 <= step <= _MAX_STEP:
            return MetricOutcome(Verdict.KEPT, "step-range")
        if self._count >= self._rules.max_count:
            return MetricOutcome(Verdict.REFUSED, "metric-count")
        if not self._has_room(at):
            return MetricOutcome(Verdict.KEPT, "metric-rate")
        self._count += 1
        return MetricOutcome(Verdict.RELEASED, "declared", round_significant(value, self._rules.digits), step)

    def _objection_to_name(self, key: str) -> str:
        if key in self._exact or key in self._pattern_of:
            return ""
        pattern = next((pattern for pattern in self._patterns if fnmatchcase(key, pattern)), "")
        if not pattern:
            return "not-declared"
        if self._names_of[pattern] >= _NAMES_PER_PATTERN:
            return "name-count"
        rule = self._names.objection_to(key)
        if not rule:
            self._names_of[pattern] += 1
            self._pattern_of[key] = pattern
        return rule

    def _has_room(self, at: datetime) -> bool:
        second = int(at.timestamp())
        if second > self._second:  # a clock that steps back gets no fresh second
            self._second, self._in_second = second, 0
        self._in_second += 1
        return self._in_second <= self._rules.per_second


def round_significant(value: float, digits: int) -> float:
    """`value` with `digits` significant decimal digits, and -0.0 as 0.0."""
    return float(f"{value:.{digits}g}") + 0.0
