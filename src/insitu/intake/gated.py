"""PROVISIONAL until insitu.gate's metric, param and log gates land: patterns and digits alone."""

from __future__ import annotations

import math
from datetime import datetime
from fnmatch import fnmatchcase
from functools import lru_cache

from insitu.gate.policy import Policy, load_policy
from insitu.intake.request import IntakeRequest, WarmUp
from insitu.intake.rules import LinesLeave, MetricLeaves, Stays, Stream


@lru_cache(maxsize=4)
def _policy(text: str) -> Policy:
    return load_policy(text)


def warm_up(known: WarmUp) -> None:
    if known.policy:
        _policy(known.policy)


class GateRules:
    def __init__(self, request: IntakeRequest) -> None:
        self._release = _policy(request.policy).release
        self._metrics = request.contract.metrics

    def metric(self, key: str, value: float, step: int, at: datetime) -> MetricLeaves | Stays:
        del at
        if not any(fnmatchcase(key, pattern) for pattern in self._metrics):
            return Stays("not-declared")
        if not math.isfinite(value):
            return Stays("not-finite")
        return MetricLeaves(float(f"{value:.{self._release.metrics.digits}g}"), step)

    def param(self, key: str, value: str, at: datetime) -> str | Stays:
        del key, at
        return value if len(value) < 200 else Stays("params-budget")

    def tag(self, key: str, value: str, at: datetime) -> str | Stays:
        return self.param(key, value, at)

    def name(self, text: str, at: datetime) -> str | Stays:
        del at
        return text if len(text) < 64 else Stays("name")

    def line(self, stream: Stream, text: str, at: datetime) -> LinesLeave:
        del stream, at
        return LinesLeave((text,), 0) if self._release.logs.mode == "scanned" else LinesLeave((), 1)

    def end(self, stream: Stream, at: datetime) -> LinesLeave:
        del stream, at
        return LinesLeave((), 0)


def gate_rules(request: IntakeRequest) -> GateRules:
    return GateRules(request)
