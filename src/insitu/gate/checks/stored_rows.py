"""A model does not keep its training rows one by one, by whatever name: neighbours, kernels, labels of rows."""

from __future__ import annotations

from insitu.domain.outputs import Finding
from insitu.gate.subject import Subject, Terms

RULE = "stored-rows"


def check(subject: Subject, terms: Terms) -> Finding | None:
    del terms
    if not subject.structures.rows_kept:
        return None
    return Finding(
        rule=RULE,
        measure=subject.structures.rows_kept,
        limit="nothing for each row",
        hint="train a model that does not keep rows: linear, a tree with large leaves, a network",
        where=subject.structures.where[:200],
    )
