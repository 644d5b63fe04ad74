"""Only formats that the policy lists leave, and only as a copy that the gate itself wrote."""

from __future__ import annotations

from insitu.domain.outputs import Finding
from insitu.gate.subject import Subject, Terms

RULE = "kind"


def check(subject: Subject, terms: Terms) -> Finding | None:
    allowed = terms.formats(subject)
    limit = f"formats: {', '.join(allowed) or 'none'}"
    if subject.objections:
        first = subject.objections[0]
        return Finding(first.rule, first.measure, limit, first.hint, first.where)
    if subject.canonical is None:
        return Finding(RULE, "could not be rewritten", limit, "write one of the listed formats")
    others = sorted(set(subject.format.split(",")) - set(allowed))
    if others:
        return Finding(RULE, ", ".join(others), limit, "write one of the listed formats, or ask the steward")
    return None
