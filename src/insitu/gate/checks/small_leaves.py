"""The leaves of trees stand for groups, not for persons."""

from __future__ import annotations

from insitu.domain.outputs import Finding
from insitu.gate.structures import SMALLEST_GROUP
from insitu.gate.subject import Subject, Terms

RULE = "small-leaves"


def check(subject: Subject, terms: Terms) -> Finding | None:
    """By the counts that the model states, and by the number of leaves, which no statement can hide."""
    del terms
    if subject.leaves is None:
        return None
    smallest, most, rows = (
        subject.leaves.smallest,
        subject.leaves.most,
        max((seen.of for seen in subject.rows), default=0),
    )
    if smallest is not None and smallest < SMALLEST_GROUP:
        measure = f"a leaf of {smallest} rows"
    elif rows and most * SMALLEST_GROUP > rows:
        measure = f"a tree of {most} leaves over at most {rows} rows"
    else:
        return None
    return Finding(
        rule=RULE,
        measure=measure,
        limit=f"{SMALLEST_GROUP} rows in each leaf",
        hint=f"train with min_samples_leaf={SMALLEST_GROUP} or more",
    )
