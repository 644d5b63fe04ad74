"""The gate's rules for one job, as the intake asks them: `insitu.gate` behind `rules.Rules`."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from insitu.domain.errors import IntegrityError
from insitu.domain.outputs import ReleaseContract
from insitu.gate.channels.code_words import CODE_WORDS, CodeWords, CodeWordsFile, words_of
from insitu.gate.channels.evidence import LiveEvidence
from insitu.gate.channels.installed_texts import INSTALLED_TEXTS, NONE_INSTALLED, Installed, InstalledTextsFile
from insitu.gate.channels.line_code import LineCode
from insitu.gate.channels.logs import LogBudget, LogGate
from insitu.gate.channels.metric_names import MetricNames
from insitu.gate.channels.metrics import MetricGate
from insitu.gate.channels.number_price import MetricValues
from insitu.gate.channels.params import ParamGate, TextOutcome
from insitu.gate.known.data import KnownData
from insitu.gate.policy.loading import DEFAULT_POLICY_TEXT, Policy, load_policy
from insitu.intake.request import IntakeRequest, WarmUp
from insitu.intake.rules import LinesLeave, MetricLeaves, Rules, Stays, Stream


class GateRules:
    """The site's policy and the job's contract, compared with the datasets that the job reads."""

    def __init__(
        self,
        policy: Policy,
        contract: ReleaseContract,
        known: list[KnownData],
        *,
        script_root: str = "/job/code",
        code: Callable[[], CodeWords] = CodeWords,
        installed: Installed = NONE_INSTALLED,
    ) -> None:
        release = policy.release
        # One for all channels: a job that takes turns between them says no less.
        evidence = LiveEvidence(known)
        budget = LogBudget(release.logs.max_bytes, release.logs.per_second)
        columns = [name for one in known for name in one.column_names]
        self._values = MetricValues()
        known_words = words_of(*columns)
        told_by_names = LineCode(
            release.params.ceiling_bytes, code=code, names=known_words, installed=installed, hides=False
        )
        told_by_lines = LineCode(
            release.logs.ceiling_bytes, metrics=self._values, code=code, names=known_words, installed=installed
        )
        names = MetricNames(
            contract.metrics,
            evidence,
            most=release.metrics.max_names,
            code=code,
            column_names=columns,
            telling=told_by_names,
        )
        self._metrics = MetricGate(release.metrics, names, evidence)
        # Tags too: they share one budget.
        self._params = ParamGate(release.params, evidence, telling=told_by_names, code=code)
        self._logs = {
            stream: LogGate(
                release,
                evidence,
                budget,
                stream=stream,
                telling=told_by_lines,
                script_root=script_root,
                code=code,
            )
            for stream in ("stdout", "stderr")
        }

    def metric(self, key: str, value: float, step: int, at: datetime, *, run: str) -> MetricLeaves | Stays:
        outcome = self._metrics.decide(key, value, step, at, run=run)
        if not outcome.leaves:
            return Stays(outcome.rule)
        self._values.leaves(key, outcome.value)
        return MetricLeaves(outcome.value, outcome.step)

    def param(self, key: str, value: str, at: datetime) -> str | Stays:
        del at
        return _as_answer(self._params.decide(key, value), value)

    def tag(self, key: str, value: str, at: datetime) -> str | Stays:
        return self.param(key, value, at)

    def name(self, text: str, at: datetime) -> str | Stays:
        del at
        return _as_answer(self._params.decide_name(text), text)

    def lines(self, stream: Stream, texts: Sequence[str], at: datetime) -> LinesLeave:
        outcomes = self._logs[stream].lines(texts, at)
        kept = Counter(outcome.held_by for outcome in outcomes if outcome.held_by is not None)
        return LinesLeave([text for outcome in outcomes for text in outcome.released], {**kept})

    def end(self, stream: Stream, at: datetime) -> LinesLeave:
        del at
        return LinesLeave(self._logs[stream].end())


def _as_answer(outcome: TextOutcome, text: str) -> str | Stays:
    return text if outcome.leaves else Stays(outcome.rule)


def gate_rules(request: IntakeRequest) -> Callable[[], Rules]:
    """Makes the rules of the job that `request` names: looked at now, built when called.

    Raises:
        InvalidInputError: the policy is none.
        IntegrityError: the index of a dataset can't be read. Then nothing can be checked.
    """
    policy = _read_policy(request.policy).for_code(approved=request.in_envelope)
    known = [_open_index(folder) for folder in request.index_dirs]
    contract = request.contract.as_contract()
    code = CodeWordsFile(request.state_dir / CODE_WORDS)
    texts = InstalledTextsFile(request.state_dir / INSTALLED_TEXTS)

    def make() -> Rules:
        # Read now, beside the code's own start, and not when its first line waits for it.
        words, installed = code.found, texts.found
        return GateRules(
            policy,
            contract,
            known,
            script_root=request.script_root,
            code=lambda: words,
            installed=lambda: installed,
        )

    return make


@lru_cache(maxsize=8)
def _open_index(folder: Path) -> KnownData:
    """A version's index never changes, so what was opened ahead is what the job's request names."""
    return KnownData.open(folder)


@lru_cache(maxsize=4)
def _read_policy(text: str) -> Policy:
    return load_policy(text)


def warm_up(ahead: WarmUp) -> None:
    """Do once what the first job would do for the first time, and read what it will probably read."""
    known: list[KnownData] = []
    for folder in ahead.index_dirs:
        with contextlib.suppress(IntegrityError):  # whoever asks for it is told
            known.append(_open_index(folder))
    policy = _read_policy(ahead.policy or DEFAULT_POLICY_TEXT).for_code(approved=False)
    rules: Rules = GateRules(policy, ReleaseContract(("a*",)), known)
    now = datetime.now(UTC)
    rules.metric("a", 0.5, 0, now, run="")
    rules.param("a", "b", now)
    rules.name("a", now)
    rules.lines("stdout", ["a line"], now)
