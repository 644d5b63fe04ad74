"""What could not be read to its end is not clean."""

from __future__ import annotations

from insitu.domain.outputs import Finding
from insitu.gate.subject import Subject, Terms

RULE = "not-readable"


def check(subject: Subject, terms: Terms) -> Finding | None:
    del terms
    if not subject.unread:
        return None
    return Finding(
        rule=RULE,
        measure=f"{len(subject.unread)} parts could not be read",
        limit="0",
        hint="write it again in a plain format; a reviewer can look at it",
        where=subject.unread[0][:200],
    )
