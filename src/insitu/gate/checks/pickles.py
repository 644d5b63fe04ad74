"""A pickle runs code when it is loaded, and anything can stand in it; it does not leave by itself."""

from __future__ import annotations

from insitu.domain.outputs import Finding
from insitu.gate.subject import Subject, Terms

RULE = "pickles"


def check(subject: Subject, terms: Terms) -> Finding | None:
    del terms
    where = subject.kinds.get("pickle")
    if where is None:
        return None
    return Finding(
        rule=RULE,
        measure="a pickle",
        limit="no pickles",
        hint='save it with mlflow.sklearn.log_model(..., serialization_format="skops")'
        if subject.is_model
        else "write JSON or CSV",
        where=where[:200],
    )
