"""No bytes in disguise: encoded text in a released file or in a model, streams in the bits of numbers."""

from __future__ import annotations

from insitu.domain.outputs import Finding
from insitu.gate.subject import Subject, Terms

RULE = "encoded-text"


def check(subject: Subject, terms: Terms) -> Finding | None:
    del terms
    if where := subject.kinds.get("hidden stream"):
        return _finding(
            "a compressed stream inside of something else", "write what is in it as files of its own", where
        )
    if where := subject.encoded or subject.kinds.get("encoded", ""):
        return _finding("text that looks like encoded bytes", "write numbers and words as they are", where)
    return None


def _finding(measure: str, hint: str, where: str) -> Finding:
    return Finding(rule=RULE, measure=measure, limit="none", hint=hint, where=where[:200])
