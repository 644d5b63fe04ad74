"""Which names of metrics leave: those that were declared, and words under a declared pattern.

A pattern lets names through that nobody has seen before, so the rest of such a
name could be base32 of a row in pieces of eight letters. But names that people
give are made of words: of the field's (loss, auc, fold), of the job's own code,
which was signed before it saw any data, and of the dataset's columns, which the
hub knows from the catalogue. Numbers in names count: up to twenty, or those that
stand in the code. And there are only so many names, which together with parameters
tell no more than `release.params.ceiling` (`channels/line_code.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

from insitu.gate.channels.code_words import CodeWords, words_of
from insitu.gate.channels.evidence import LiveEvidence
from insitu.gate.channels.line_code import LineCode
from insitu.gate.channels.names import NameGate, objection_to
from insitu.gate.channels.plain_words import WORDS_OF_THE_FIELD

_WILD = frozenset("*?[")
_LARGEST_NUMBER = 20
_MOST_PARTS = 8
_MOST_NUMBERS = 2
_MOST_SHORT = 1  # parts of one or two letters that are none of the words


class MetricNames:
    """The names of one job's metrics.

    Args:
        declared: names and patterns of the job's signed file.
        most: names that may leave under patterns, in all.
        code: what the job's code says of itself, asked when a pattern is first needed.
        column_names: of the job's datasets.
        telling: the account of what names tell; left out, nothing but their number bounds that.
    """

    def __init__(
        self,
        declared: Sequence[str],
        evidence: LiveEvidence,
        *,
        most: int,
        code: Callable[[], CodeWords] = CodeWords,
        column_names: Iterable[str] = (),
        telling: LineCode | None = None,
    ) -> None:
        self._exact = frozenset(name for name in declared if not _WILD & set(name))
        self._patterns = tuple(name for name in declared if _WILD & set(name))
        self._given = frozenset(words_of(*declared, *column_names)) | WORDS_OF_THE_FIELD
        self._code = code
        self._known: frozenset[str] | None = None
        self._gate = NameGate(evidence, max_names=most)
        self._told = telling
        self._left: set[str] = set()

    def objection_to(self, name: str) -> str:
        """The rule that keeps `name` at the site; empty if it may leave, which then counts as done."""
        if name in self._exact or name in self._left:
            return ""
        if not any(fnmatchcase(name, pattern) for pattern in self._patterns):
            return "not-declared"
        rule = objection_to(name) or self._objection_to_words(name) or self._gate.objection_to(name)
        if not rule and self._told is not None and self._told.may_leave("metric", name) is None:
            rule = "params-ceiling"
        if not rule:
            self._left.add(name)
        return rule

    def _objection_to_words(self, name: str) -> str:
        if self._known is None:
            self._known = self._given | self._code().parts
        parts = [part for part in words_of(name) if not self._is_word(part, self._known)]
        numbers = sum(part.isdigit() for part in words_of(name))
        short = sum(len(part) <= 2 for part in parts)
        too_many = len(words_of(name)) > _MOST_PARTS or numbers > _MOST_NUMBERS or short > _MOST_SHORT
        return "name-words" if too_many or len(parts) > short else ""

    @staticmethod
    def _is_word(part: str, known: frozenset[str]) -> bool:
        if part.isdigit():
            return int(part) <= _LARGEST_NUMBER or part in known
        return part in known or _singular(part) in known


def _singular(word: str) -> str:
    return word[:-1] if word.endswith("s") else f"{word}s"
