"""Decides what becomes of one output: pure, and the only place that says "released".

    Subject + Terms ─CHECKS─► findings ─► released | held | refused

1. Every rule runs, whatever the others said: the finding that decides is the
   first in the order of `checks`, and a steward sees all of them.
2. An output that the job did not declare is *kept*: no error, it stays.
3. One whose only fault is its size is *refused*: no reviewer can shrink it.
4. With any other finding it is what the policy's `otherwise` says: held, refused, or resident
   where a model may be used at the site and only its leaving is in question.
5. Without a finding, but with something not checked, it is *held*: what was
   not checked has not passed.
6. Only what is left is *released*, as the canonical copy and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from insitu.domain.digests import Digest, digest_of
from insitu.domain.outputs import Decision, Finding, OutputType, Verdict
from insitu.gate.checks import CHECKS
from insitu.gate.subject import Subject, Terms

NOT_CHECKED = "not-checked"
CLEAN = "clean"


def decide(subject: Subject, terms: Terms) -> Decision:
    """The decision on one output."""
    findings = tuple(finding for check in CHECKS.values() if (finding := check(subject, terms)) is not None)
    if findings:
        first = findings[0]
        return _decision(subject, _verdict(subject, terms, findings), first, findings)
    if subject.not_checked or subject.canonical is None:
        return _decision(subject, Verdict.HELD, _not_checked(subject), ())
    return _decision(subject, Verdict.RELEASED, Finding(CLEAN, "", "", ""), ())


def _verdict(subject: Subject, terms: Terms, findings: tuple[Finding, ...]) -> Verdict:
    rules = {finding.rule for finding in findings}
    if "declared-only" in rules:
        return Verdict.KEPT
    if rules == {"size"} or terms.otherwise(subject) == "refused":
        return Verdict.REFUSED
    if terms.otherwise(subject) == "resident" and may_be_resident(subject, rules):
        return Verdict.RESIDENT
    return Verdict.HELD


_ABOUT_LEAVING = frozenset({
    "rows-in-model", "rows-in-text", "known-content", "stored-rows", "small-leaves", "small-groups", "extremes",
    "vocabulary", "types", "ceiling", "no-envelope", "size",
})  # fmt: skip
"""Rules that object to a model's leaving and not to its being used here: it holds data, or could.

`types` is among them because serving loads no type that the policy does not trust, whatever the file says.
"""


def may_be_resident(subject: Subject, rules: set[str]) -> bool:
    """Whether the policy alone may let a model be used at its site: checked to its end, rewritten, and harmless to load."""
    servable = subject.type is OutputType.MLFLOW_MODEL and subject.canonical is not None
    return servable and not subject.not_checked and rules <= _ABOUT_LEAVING


def _not_checked(subject: Subject) -> Finding:
    return Finding(
        rule=NOT_CHECKED,
        measure=f"{len(subject.not_checked)} checks could not be made",
        limit="all checks made",
        hint="a reviewer can look at it; a smaller output or a simpler format may be checked in time",
    )


def _decision(subject: Subject, verdict: Verdict, first: Finding, findings: tuple[Finding, ...]) -> Decision:
    return Decision(
        name=subject.name,
        verdict=verdict,
        rule=first.rule,
        measure=first.measure,
        limit=first.limit,
        hint=first.hint,
        findings=findings,
        checks=tuple(CHECKS),
        not_checked=subject.not_checked,
        passed_over=subject.passed_over,
        size_bytes=subject.size_bytes,
        ceiling_bytes=subject.ceiling_bytes,
        digest=None if subject.canonical is None else manifest_digest(subject.canonical),
        files=tuple(sorted(subject.canonical or ())),
    )


def manifest_digest(files: Mapping[str, bytes]) -> Digest:
    """One digest for a folder: of its sorted (path, digest, size) in canonical JSON (RFC 8785)."""
    listing = sorted([path, digest_of(data), len(data)] for path, data in files.items())
    return digest_of(json.dumps(listing, separators=(",", ":"), ensure_ascii=False).encode())
