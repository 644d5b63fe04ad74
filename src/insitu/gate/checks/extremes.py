"""A column's smallest or largest value is one person's: min-max scalers and quantiles keep them."""

from __future__ import annotations

from insitu.domain.outputs import Finding
from insitu.gate.subject import Subject, Terms

RULE = "extremes"


def check(subject: Subject, terms: Terms) -> Finding | None:
    del terms
    if not subject.is_model or not subject.structures.extremes:
        return None
    return Finding(
        rule=RULE,
        measure=f"smallest or largest values of {subject.structures.extremes} columns",
        limit="none",
        hint="scale by mean and deviation (StandardScaler), or by bounds that you know without the data",
    )
