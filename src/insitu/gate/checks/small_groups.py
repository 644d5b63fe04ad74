"""A table's counts stand for groups, not for persons."""

from __future__ import annotations

from insitu.domain.outputs import Finding
from insitu.gate.structures import SMALLEST_GROUP
from insitu.gate.subject import Subject, Terms

RULE = "small-groups"


def check(subject: Subject, terms: Terms) -> Finding | None:
    del terms
    if not subject.small_groups:
        return None
    return Finding(
        rule=RULE,
        measure=f"{subject.small_groups} counts below {SMALLEST_GROUP}",
        limit=f"each count 0, or {SMALLEST_GROUP} and more",
        hint="join small groups, leave them out, or write shares in place of counts",
    )
