"""What a model could carry stays below the policy's ceiling: one inside a run envelope, a lower one outside."""

from __future__ import annotations

from insitu.domain.outputs import Finding
from insitu.domain.quantities import format_bytes
from insitu.gate.subject import Subject, Terms

RULE = "ceiling"


def check(subject: Subject, terms: Terms) -> Finding | None:
    if not subject.is_model or subject.canonical is None:
        return None
    limit = terms.ceiling_bytes
    if subject.ceiling_bytes <= limit:
        return None
    if terms.in_envelope:
        hint = "a model with fewer parameters carries less; or ask a reviewer"
    else:
        hint = "nobody has approved this code: a steward can, once, by a run envelope (`insitu envelope`), or look at this model"
    return Finding(
        rule=RULE,
        measure=f"it could carry up to {format_bytes(subject.ceiling_bytes)}",
        limit=f"{format_bytes(limit)} {'in a run envelope' if terms.in_envelope else 'without a run envelope'}",
        hint=hint,
    )
