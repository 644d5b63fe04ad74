"""No text, bytes, columns or pictures of the dataset's files stand in an output, in whatever layer."""

from __future__ import annotations

from insitu.domain.outputs import Finding
from insitu.gate.subject import Subject, Terms

RULE = "known-content"


def check(subject: Subject, terms: Terms) -> Finding | None:
    del terms
    worst = max(subject.content, key=lambda found: found.size_bytes, default=None)
    if worst is None or not worst.runs:
        return None
    runs = "1 run" if worst.runs == 1 else f"{worst.runs} runs"
    return Finding(
        rule=RULE,
        measure=f"{runs}, {worst.size_bytes} bytes, of the dataset's files",
        limit="none",
        hint="leave out what was copied from the data: texts, examples, columns, images",
        where=worst.where[:200],
    )
