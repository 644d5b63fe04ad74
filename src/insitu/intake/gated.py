"""The gate's rules for one job, as the intake asks them: `insitu.gate` behind `rules.Rules`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

from insitu.domain.outputs import ReleaseContract
from insitu.gate.known_data import KnownData
from insitu.gate.logs import LogBudget, LogGate
from insitu.gate.metrics import MetricGate
from insitu.gate.params import ParamGate, TextOutcome
from insitu.gate.policy import DEFAULT_POLICY_TEXT, Policy, load_policy
from insitu.intake.request import IntakeRequest, WarmUp
from insitu.intake.rules import LinesLeave, MetricLeaves, Rules, Stays, Stream


class GateRules:
    """The site's policy and the job's contract, compared with the datasets that the job reads."""

    def __init__(
        self, policy: Policy, contract: ReleaseContract, known: list[KnownData], *, script_root: str = "/job/code"
    ) -> None:
        release = policy.release
        budget = LogBudget(release.logs.max_bytes)
        self._metrics = MetricGate(release.metrics, contract.metrics, known)
        self._params = ParamGate(release.params, known)  # tags too: they share one budget
        self._logs = {
            stream: LogGate(release, known, budget, script_root=script_root) for stream in ("stdout", "stderr")
        }

    def metric(self, key: str, value: float, step: int, at: datetime) -> MetricLeaves | Stays:
        outcome = self._metrics.decide(key, value, step, at)
        return MetricLeaves(outcome.value, outcome.step) if outcome.leaves else Stays(outcome.rule)

    def param(self, key: str, value: str, at: datetime) -> str | Stays:
        del at
        return _as_answer(self._params.decide(key, value), value)

    def tag(self, key: str, value: str, at: datetime) -> str | Stays:
        return self.param(key, value, at)

    def name(self, text: str, at: datetime) -> str | Stays:
        del at
        return _as_answer(self._params.decide_name(text), text)

    def line(self, stream: Stream, text: str, at: datetime) -> LinesLeave:
        del at
        outcome = self._logs[stream].line(text)
        return LinesLeave(outcome.released, 0 if outcome.held_by is None else 1, outcome.held_by or "")

    def end(self, stream: Stream, at: datetime) -> LinesLeave:
        del at
        return LinesLeave(self._logs[stream].end(), 0)


def _as_answer(outcome: TextOutcome, text: str) -> str | Stays:
    return text if outcome.leaves else Stays(outcome.rule)


def gate_rules(request: IntakeRequest) -> Callable[[], Rules]:
    """Makes the rules of the job that `request` names: looked at now, built when called.

    Raises:
        InvalidInputError: the policy is none.
        IntegrityError: the index of a dataset can't be read. Then nothing can be checked.
    """
    policy = _read_policy(request.policy)
    known = [KnownData.open(folder) for folder in request.index_dirs]
    contract = request.contract.as_contract()
    return lambda: GateRules(policy, contract, known, script_root=request.script_root)


@lru_cache(maxsize=4)
def _read_policy(text: str) -> Policy:
    return load_policy(text)


def warm_up(ahead: WarmUp) -> None:
    """Do once what the first job would do for the first time, and read what it will probably read."""
    rules: Rules = GateRules(_read_policy(ahead.policy or DEFAULT_POLICY_TEXT), ReleaseContract(("a*",)), [])
    now = datetime.now(UTC)
    rules.metric("a", 0.5, 0, now)
    rules.param("a", "b", now)
    rules.name("a", now)
    rules.line("stdout", "a line", now)
    for folder in ahead.index_dirs:
        KnownData.open(folder)
