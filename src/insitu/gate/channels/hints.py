"""What a data scientist is told of each rule that kept something while a job ran: the limit's key, and what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass

_HINTS = {
    "not-declared": ("", "declare it in the job's file, under metrics or outputs; the rest is for the site alone"),
    "metric-count": ("release.metrics.max_count", "log each epoch, not each step"),
    "metric-rate": ("release.metrics.per_second", "log each epoch, not each step"),
    "not-finite": ("", "log a number that means something"),
    "value-range": ("", "log a number that means something"),
    "step-range": ("", "count steps up from 0"),
    "step-pattern": ("", "count steps up from 0"),
    "rows-in-metrics": ("", "log what was computed, not what was read"),
    "data-in-metrics": ("", "log what was computed, not what was read"),
    "name-length": ("", "use short names of words"),
    "name-characters": ("", "use short names of words"),
    "name-encoded": ("", "use short names of words"),
    "name-count": ("release.metrics.max_names", "spell the names out in the job's file"),
    "name-words": ("", "spell the names out in the job's file"),
    "rows-in-name": ("", "name it for what it measures"),
    "params-budget": ("release.params.max_bytes", "send fewer and shorter ones; they are at the site"),
    "params-ceiling": ("release.params.ceiling", "send fewer and shorter ones; they are at the site"),
    "value-length": ("", "write plain, short values"),
    "value-characters": ("", "write plain, short values"),
    "value-encoded": ("", "write plain, short values"),
    "rows-in-value": ("", "leave data out of parameters"),
    "system-tag": ("", "use another name: the hub writes tags under mlflow."),
    "log-mode": ("release.logs.mode", "ask the steward, who may read them at the site, or for a run envelope"),
    "log-rate": ("release.logs.per_second", "print less"),
    "log-budget": ("release.logs.max_bytes", "print less"),
    "log-ceiling": (
        "release.logs.ceiling",
        "print in the same words each time, and numbers that you also log as metrics",
    ),
    "new-after-rows": ("", "don't print data: after that only lines in a form that has left before are released"),
    "line-length": ("", "print short, plain lines"),
    "line-characters": ("", "print short, plain lines"),
    "encoded-line": ("", "print short, plain lines, with names that the job's code says"),
    "rows-in-line": ("", "don't print data"),
    "data-in-line": ("", "don't print data"),
    "bar-on-its-way": ("", "of a progress bar its end is released; log how far it is as a metric"),
    "traceback": ("release.errors", "raise errors whose type says what went wrong; the message is at the site"),
    "room": ("", "use fewer runs and events in one job"),
    "not-ready": ("", "ask the steward to look into the job's intake.log, and run it again"),
    "rule-failed": ("", "ask the steward to look into the job's intake.log, and run it again"),
}
RULES_WITH_HINTS = frozenset(_HINTS)


def describe_kept(kind: str, rule: str, at_least: int) -> str:
    """One line for a job's log: how much of `kind` stayed by `rule`, which key of the policy is the limit, what to do."""
    key, hint = _HINTS.get(rule, ("", "ask the site's steward"))
    limit = f" (limit: {key})" if key else ""
    return f"at least {at_least} × {kind} stayed at the site, rule {rule}{limit}: {hint}"


@dataclass(frozen=True)
class KeptLine:
    """What such a line says, in parts."""

    kind: str
    rule: str
    at_least: int
    limit: str
    hint: str


_LINE = re.compile(r"at least (\d+) × (.+?) stayed at the site, rule ([a-z-]+)(?: \(limit: ([\w.]+)\))?: (.*)")


def read_kept(line: str) -> KeptLine | None:
    """The parts of a line that `describe_kept` made; None for any other line."""
    found = _LINE.fullmatch(line)
    return found and KeptLine(found[2], found[3], int(found[1]), found[4] or "", found[5])
