"""Names of files are text that leaves too: short, plain, not encodings."""

from __future__ import annotations

from insitu.domain.outputs import Finding
from insitu.gate.subject import Subject, Terms

RULE = "names"


def check(subject: Subject, terms: Terms) -> Finding | None:
    del terms
    if not subject.odd_names:
        return None
    return Finding(
        rule=RULE,
        measure=f"{subject.odd_names} unusual file names",
        limit="0",
        hint="use short names of letters, digits, dots and dashes",
    )
