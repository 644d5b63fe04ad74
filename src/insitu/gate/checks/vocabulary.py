"""Words in a model are few, and none is one person's: vocabularies and categories keep cells of the data."""

from __future__ import annotations

from insitu.domain.outputs import Finding
from insitu.gate.structures import SMALLEST_GROUP
from insitu.gate.subject import Subject, Terms

RULE = "vocabulary"
_MOST_WORDS = 200


def check(subject: Subject, terms: Terms) -> Finding | None:
    """Object to words of few rows in any output; to many words in a model."""
    del terms
    found = subject.structures
    if found.rare_words:
        measure = f"{found.rare_words} words that fewer than {SMALLEST_GROUP} rows hold"
        limit = "none"
    elif subject.is_model and found.words > _MOST_WORDS:
        measure, limit = f"{found.words} different words", f"{_MOST_WORDS} words"
    else:
        return None
    return Finding(
        rule=RULE,
        measure=measure,
        limit=limit,
        hint="leave out vocabularies and categories, or keep those alone that many rows share (min_df, min_frequency)",
    )
