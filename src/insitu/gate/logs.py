"""Which lines of a job's output leave while it runs.

Mode `held`: none. Mode `scanned`: a line that holds no cells of one row, also
together with the few lines before it, and nothing that looks encoded, within
a budget of bytes. A line that was held can still be read by the steward.

Tracebacks are taken out first, in both modes: what leaves of them is decided by
`release.errors` and described in `tracebacks.py`.

Not caught: one cell at a time, further apart than the scan looks back; words
chosen to spell bits. Both are bounded by the budget, which is why it is small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from insitu.gate.encoded_text import encoded_run
from insitu.gate.known_data import KnownData
from insitu.gate.policy_values import ReleaseRules
from insitu.gate.text_evidence import LineScan, pieces
from insitu.gate.tracebacks import TracebackFilter

LINE_BYTES = 4096
"""A line that is longer is held: nobody reads it, and much fits in."""
ERROR_BYTES = 8192
"""Of types and frames, in all: so that a failing job tells why even where no log leaves."""

HeldBy = Literal[
    "log-mode", "rows-in-line", "encoded-line", "line-length", "line-characters", "log-budget", "traceback"
]


@dataclass(frozen=True, slots=True)
class LineOutcome:
    """What leaves for one line (none, itself, or the summary of a traceback), and why the line did not."""

    released: tuple[str, ...] = ()
    held_by: HeldBy | None = None


class LogGate:
    """The rules for one stream of one job. Ask once for each line, in order; then `end`."""

    def __init__(
        self,
        rules: ReleaseRules,
        known: Sequence[KnownData],
        budget: LogBudget,
        *,
        script_root: str = "/job/code",
    ) -> None:
        self._mode = rules.logs.mode
        self._errors = rules.errors
        self._budget = budget
        self._scan = LineScan(known) if self._mode == "scanned" else None
        self._tracebacks = TracebackFilter(script_root)

    def line(self, text: str) -> LineOutcome:
        """May this line leave?"""
        passed = self._tracebacks.take(text)
        if passed.inside:
            return LineOutcome(self._of_errors(passed.summary), "traceback")
        held_by = self._objection_to(text)
        if held_by is None and not self._budget.spend(len(text.encode(errors="replace")) + 1):
            held_by = "log-budget"
        return LineOutcome(() if held_by else (text,), held_by)

    def end(self) -> tuple[str, ...]:
        """The stream has ended: what may leave of a traceback that was cut off."""
        return self._of_errors(self._tracebacks.end())

    def _objection_to(self, text: str) -> HeldBy | None:
        if self._scan is None:
            return "log-mode"
        if len(text) > LINE_BYTES:
            return "line-length"
        if any(not character.isprintable() and character != "\t" for character in text):
            return "line-characters"
        if encoded_run(text):
            return "encoded-line"
        if any(self._scan.rows_in(piece) for piece in pieces(text)):
            return "rows-in-line"
        return None

    def _of_errors(self, lines: tuple[str, ...]) -> tuple[str, ...]:
        if self._errors == "none":
            return ()
        return tuple(line for line in lines if self._budget.spend_error(len(line.encode()) + 1))


class LogBudget:
    """Bytes of log text that a job may send, over all of its streams."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes
        self._errors_left = ERROR_BYTES

    def spend(self, size_bytes: int) -> bool:
        if size_bytes > self._left:
            return False
        self._left -= size_bytes
        return True

    def spend_error(self, size_bytes: int) -> bool:
        if size_bytes > self._errors_left:
            return False
        self._errors_left -= size_bytes
        return True
