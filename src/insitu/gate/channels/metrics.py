"""Which metric values leave while a job runs, and with how many digits.

Declared by name or pattern in the job's signed file; everything else is kept. A
value is rounded to the policy's significant digits, since the digits beyond them
could spell anything; one that is no number, or too large to be a measurement,
stays, and one next to nothing is nothing. What is left of a value can still be a
cell of the data: so all that left is watched for rows and columns of it
(`channels/evidence.py`), and from the first alarm on no metric of the job leaves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from math import log2

from insitu.domain.outputs import Verdict
from insitu.gate.channels.cells import rounded_number
from insitu.gate.channels.evidence import LiveEvidence
from insitu.gate.channels.metric_names import MetricNames
from insitu.gate.channels.metric_steps import StepGate
from insitu.gate.channels.rate import Rate
from insitu.gate.policy.values import MetricRules

_SMALLEST, _LARGEST = 1e-12, 1e12
_EXPONENTS = 24  # powers of ten between them
_RULES = {"rows": "rows-in-metrics", "values": "data-in-metrics"}


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

    def __init__(self, rules: MetricRules, names: MetricNames, evidence: LiveEvidence) -> None:
        self._rules = rules
        self._names = names
        self._evidence = evidence
        self._steps = StepGate()
        self._rate = Rate(rules.per_second)
        self._alarm = ""
        self._count = 0

    def decide(self, key: str, value: float, step: int, at: datetime, *, run: str = "") -> MetricOutcome:
        """May this value of a run leave? `at` is the gate's own clock, never the script's."""
        rule = self._names.objection_to(key) or self._alarm or self._objection_to(key, value, step, run)
        if rule:
            return MetricOutcome(Verdict.KEPT, rule)
        if self._count >= self._rules.max_count:
            return MetricOutcome(Verdict.REFUSED, "metric-count")
        if not self._rate.take(at):
            return MetricOutcome(Verdict.KEPT, "metric-rate")
        shown = round_significant(value, self._rules.digits) if abs(value) >= _SMALLEST else 0.0
        telling = self._evidence.of_number(rounded_number(shown, self._rules.digits))
        if telling:
            self._alarm = _RULES[telling]
            return MetricOutcome(Verdict.KEPT, self._alarm)
        self._count += 1
        self._steps.leaves(run, key, step)
        return MetricOutcome(Verdict.RELEASED, "declared", shown, step)

    def _objection_to(self, key: str, value: float, step: int, run: str) -> str:
        if not math.isfinite(value):
            return "not-finite"
        if abs(value) >= _LARGEST:
            return "value-range"
        return self._steps.objection_to(run, key, step)

    @property
    def carried_bytes(self) -> int:
        """What the values that left could have told at most, had each digit and step been chosen for it."""
        return math.ceil(self._count * bits_of_a_value(self._rules.digits) / 8)


def bits_of_a_value(digits: int) -> float:
    """What one value and its step can tell: sign, digits, exponent, and one of the few strides."""
    return log2(2 * 9 * 10 ** (digits - 1) * _EXPONENTS + 1) + StepGate.bits


def round_significant(value: float, digits: int) -> float:
    """`value` with `digits` significant decimal digits, and -0.0 as 0.0."""
    return float(f"{value:.{digits}g}") + 0.0
