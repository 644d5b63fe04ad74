"""What leaves is no larger than the policy allows, nor than the job's own file says."""

from __future__ import annotations

from insitu.domain.outputs import Finding
from insitu.domain.quantities import format_bytes
from insitu.gate.subject import Subject, Terms

RULE = "size"


def check(subject: Subject, terms: Terms) -> Finding | None:
    limit, whose = terms.max_bytes(subject), "the site's policy"
    own = subject.declared.max_bytes if subject.declared else None
    if own is not None and own < limit:
        limit, whose = own, "the job's file"
    if subject.size_bytes <= limit:
        return None
    return Finding(
        rule=RULE,
        measure=format_bytes(subject.size_bytes),
        limit=f"{format_bytes(limit)} in {whose}",
        hint="make it smaller: fewer features, fewer components, no stored data",
    )
