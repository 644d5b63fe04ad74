"""Nothing leaves that the job's signed file did not declare, as the type that it declared."""

from __future__ import annotations

from insitu.domain.outputs import Finding
from insitu.gate.subject import Subject, Terms

RULE = "declared-only"


def check(subject: Subject, terms: Terms) -> Finding | None:
    del terms
    if subject.declared is not None and subject.declared.type is subject.type:
        return None
    return Finding(
        rule=RULE,
        measure="not declared" if subject.declared is None else f"written as {subject.type.value}",
        limit="declared outputs only" if subject.declared is None else f"declared as {subject.declared.type.value}",
        hint="declare it under `outputs` in the job's file",
    )
