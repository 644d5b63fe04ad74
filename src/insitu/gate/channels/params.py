"""Which parameters and tags of a run leave: short, plain ones, within one budget of bytes.

They are text that a script chose, so a value is looked at like a log line: no
encodings, also none that comes in small pieces, and nothing that, with all else
that the job has said, is the data. And as each line, each pair is charged what it
tells (`channels/line_code.py`), against `release.params.ceiling`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from insitu.domain.outputs import Verdict
from insitu.gate.channels.code_words import CodeWords
from insitu.gate.channels.disguise import Disguise
from insitu.gate.channels.evidence import LiveEvidence
from insitu.gate.channels.line_code import LineCode
from insitu.gate.channels.names import NameGate
from insitu.gate.encoded_text import encoded_run
from insitu.gate.policy.values import ParamRules

_LONGEST_VALUE = 500


@dataclass(frozen=True, slots=True)
class TextOutcome:
    """What becomes of one text, by which rule."""

    verdict: Verdict
    rule: str

    @property
    def leaves(self) -> bool:
        return self.verdict is Verdict.RELEASED


class ParamGate:
    """The rules for one job's parameters and tags. Counts what it lets out."""

    def __init__(
        self,
        rules: ParamRules,
        evidence: LiveEvidence,
        *,
        telling: LineCode | None = None,
        code: Callable[[], CodeWords] = CodeWords,
    ) -> None:
        self._left_bytes = rules.max_bytes
        self._evidence = evidence
        self._names = NameGate(evidence)
        self._disguise = Disguise(code)
        self._told = telling or LineCode(rules.ceiling_bytes, code=code, hides=False)

    def decide(self, key: str, value: str) -> TextOutcome:
        """May this pair leave?"""
        size = len(key.encode()) + len(value.encode(errors="replace"))
        if size > self._left_bytes:
            return TextOutcome(Verdict.KEPT, "params-budget")
        if len(value) > _LONGEST_VALUE:
            return TextOutcome(Verdict.KEPT, "value-length")
        if not value.isprintable() and value:
            return TextOutcome(Verdict.KEPT, "value-characters")
        if encoded_run(value) or self._disguise.is_worn_by(f"{key} {value}"):
            return TextOutcome(Verdict.KEPT, "value-encoded")
        rule = self._names.objection_to(key)
        if rule:
            return TextOutcome(Verdict.KEPT, rule)
        if self._evidence.of_text(value):
            return TextOutcome(Verdict.KEPT, "rows-in-value")
        if self._told.may_leave("param", f"{key}={value}") is None:
            return TextOutcome(Verdict.KEPT, "params-ceiling")
        self._left_bytes -= size
        return TextOutcome(Verdict.RELEASED, "params")

    def decide_name(self, name: str) -> TextOutcome:
        """May a name that the script gave to a run or a model leave?"""
        if len(name.encode(errors="replace")) > self._left_bytes:
            return TextOutcome(Verdict.KEPT, "params-budget")
        rule = self._names.objection_to(name)
        if not rule and self._told.may_leave("name", name) is None:
            rule = "params-ceiling"
        if rule:
            return TextOutcome(Verdict.KEPT, rule)
        self._left_bytes -= len(name.encode())
        return TextOutcome(Verdict.RELEASED, "name")
