"""What could not be read to its end is not clean, and the decision says why it could not."""

from __future__ import annotations

from insitu.domain.outputs import Finding
from insitu.gate.subject import Subject, Terms

RULE = "not-readable"


def check(subject: Subject, terms: Terms) -> Finding | None:
    del terms
    if not subject.unread:
        return None
    # "where: reason", or the reason alone where a bound ended the reading of the whole; places have ordinals for names.
    where, _, reason = subject.unread[0].rpartition(": ")
    others = f", and {len(subject.unread) - 1} more" if len(subject.unread) > 1 else ""
    return Finding(
        rule=RULE,
        measure=f"{reason[:120]}{others}",
        limit="all of it read",
        hint="write it again in a plain format; a reviewer can look at it",
        where=where[:200],
    )
