"""No bytes in disguise: hex, base32 or base64 in a released file or in a model's text."""

from __future__ import annotations

from insitu.domain.outputs import Finding
from insitu.gate.subject import Subject, Terms

RULE = "encoded-text"


def check(subject: Subject, terms: Terms) -> Finding | None:
    del terms
    if not subject.encoded:
        return None
    return Finding(
        rule=RULE,
        measure="text that looks like encoded bytes",
        limit="none",
        hint="write numbers and words as they are",
        where=subject.encoded[:200],
    )
