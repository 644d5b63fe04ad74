"""An output is not more files than the policy allows: a number of files is a message too."""

from __future__ import annotations

from insitu.domain.outputs import Finding
from insitu.gate.subject import Subject, Terms

RULE = "file-count"


def check(subject: Subject, terms: Terms) -> Finding | None:
    limit = terms.release.files.max_count
    if subject.is_model or subject.canonical is None or len(subject.canonical) <= limit:
        return None
    return Finding(
        rule=RULE, measure=f"{len(subject.canonical)} files", limit=f"{limit} files", hint="write fewer, larger files"
    )
