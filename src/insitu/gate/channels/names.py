"""Names that a script chose are text like any other: metrics, parameters, runs, functions, classes.

A name leaves if it is short, made of ordinary characters, does not look like an
encoding, and says, with all else that the job has said, no rows of the data.
`NameGate` also bounds how many different names leave in all: each new one is a
message.
"""

from __future__ import annotations

import re

from insitu.gate.channels.evidence import LiveEvidence
from insitu.gate.encoded_text import encoded_run

_LONGEST = 100
_FORM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ ./:@%()\[\]<>=+-]*")
_ENCODED_FROM = 16  # characters: names are shorter than lines


def objection_to(name: str) -> str:
    """The rule that keeps `name` at the site by its form alone; empty if none does."""
    if len(name) > _LONGEST:
        return "name-length"
    if not _FORM.fullmatch(name):
        return "name-characters"
    if encoded_run(name, least=_ENCODED_FROM):
        return "name-encoded"
    return ""


class NameGate:
    """Decides on names, one by one, and remembers those that left."""

    def __init__(self, evidence: LiveEvidence, *, max_names: int = 500) -> None:
        self._evidence = evidence
        self._max_names = max_names
        self._left: set[str] = set()

    def objection_to(self, name: str) -> str:
        """The rule that keeps `name` at the site; empty if it may leave, which then counts as done."""
        if name in self._left:
            return ""
        rule = objection_to(name)
        if rule:
            return rule
        if len(self._left) >= self._max_names:
            return "name-count"
        if self._evidence.of_text(name):
            return "rows-in-name"
        self._left.add(name)
        return ""
