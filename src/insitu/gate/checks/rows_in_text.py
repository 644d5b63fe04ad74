"""Text inside an output (labels, categories, keys, cells) holds no cells of one row."""

from __future__ import annotations

from insitu.domain.outputs import Finding
from insitu.gate.subject import Subject, Terms

RULE = "rows-in-text"


def check(subject: Subject, terms: Terms) -> Finding | None:
    allowed = terms.release.models.known_rows if subject.is_model else 0
    worst = max((seen for seen in subject.rows if seen.in_text), key=lambda seen: seen.found, default=None)
    if worst is None or worst.found <= allowed:
        return None
    return Finding(
        rule=RULE,
        measure=f"{worst.found} of the dataset's {worst.of} rows",
        limit="1 row" if allowed == 1 else f"{allowed} rows",
        hint="leave out labels, examples and vocabularies that were taken from the rows",
        where=worst.where[:200],
    )
