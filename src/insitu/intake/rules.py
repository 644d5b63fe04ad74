"""What the intake asks of the gate: may this metric, parameter, tag, name or line leave?

The rules themselves are pure and live in `insitu.gate`; `gated.py` puts them
behind this one interface, and tests put scripted ones there. A rule answers with what
may leave (rounded, cut, rewritten) or with `Stays` and the rule that said so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

Stream = Literal["stdout", "stderr"]


@dataclass(frozen=True, slots=True)
class Stays:
    """It is kept at the site, because of `rule`."""

    rule: str


@dataclass(frozen=True, slots=True)
class MetricLeaves:
    """The value and step as they may leave: rounded, bounded."""

    value: float
    step: int


@dataclass(frozen=True, slots=True)
class LinesLeave:
    """The lines that may leave now. A traceback is decided as a whole, so a line may bring none or several."""

    texts: Sequence[str]
    kept: Mapping[str, int] = field(default_factory=dict[str, int])  # rule → lines that it kept now


class Rules(Protocol):
    """The rules of one job. They count what they let out, so each thing is asked about once."""

    def metric(self, key: str, value: float, step: int, at: datetime, *, run: str) -> MetricLeaves | Stays: ...

    def param(self, key: str, value: str, at: datetime) -> str | Stays:
        """The value that may leave under `key`."""
        ...

    def tag(self, key: str, value: str, at: datetime) -> str | Stays:
        """The value that may leave under `key`."""
        ...

    def name(self, text: str, at: datetime) -> str | Stays:
        """A name that the script chose: of a run it started, of a model it wants registered."""
        ...

    def lines(self, stream: Stream, texts: Sequence[str], at: datetime) -> LinesLeave:
        """The next lines of a stream. Together, since many are decided at less cost than one by one."""
        ...

    def end(self, stream: Stream, at: datetime) -> LinesLeave:
        """The stream has ended: what was waiting for more lines is decided."""
        ...


class NothingLeaves:
    """The rules until the job's own are ready: all stays."""

    def metric(self, key: str, value: float, step: int, at: datetime, *, run: str) -> MetricLeaves | Stays:
        del key, value, step, at, run
        return Stays("not-ready")

    def param(self, key: str, value: str, at: datetime) -> str | Stays:
        del key, value, at
        return Stays("not-ready")

    def tag(self, key: str, value: str, at: datetime) -> str | Stays:
        return self.param(key, value, at)

    def name(self, text: str, at: datetime) -> str | Stays:
        return self.param("", text, at)

    def lines(self, stream: Stream, texts: Sequence[str], at: datetime) -> LinesLeave:
        del stream, at
        return LinesLeave((), {"not-ready": len(texts)})

    def end(self, stream: Stream, at: datetime) -> LinesLeave:
        del stream, at
        return LinesLeave(())
