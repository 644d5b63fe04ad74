"""The dataset's rows do not leave inside a model or a table, scaled or not, by any name."""

from __future__ import annotations

from insitu.domain.outputs import Finding
from insitu.gate.subject import Subject, Terms

RULE = "rows-in-model"


def check(subject: Subject, terms: Terms) -> Finding | None:
    """Object to more rows than `release.models.known_rows`; in files, to any."""
    allowed = terms.release.models.known_rows if subject.is_model else 0
    worst = max((seen for seen in subject.rows if not seen.in_text), key=lambda seen: seen.found, default=None)
    if worst is None or worst.found <= allowed:
        return None
    if subject.is_model:
        hint = (
            "this kind of model stores its training rows: train one that does not (linear, tree with large leaves, "
            "network), or ask a reviewer"
        )
    else:
        hint = "release totals or averages over groups, not rows"
    return Finding(
        rule=RULE,
        measure=f"{worst.found} of the dataset's {worst.of} rows",
        limit="1 row" if allowed == 1 else f"{allowed} rows",
        hint=hint,
        where=worst.where[:200],
    )
