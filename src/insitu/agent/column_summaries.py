"""The summaries that a steward chose, made from the version's index and, for words, from its files.

Numbers are in the index already, in ascending order and mapped from disk: a range
costs a few reads. Words are there only as keyed hashes, so categories of text are
counted by going through the files once, in bounded memory.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from insitu.agent.catalogue import DatasetVersion
from insitu.agent.suppression import Figures, common_categories, figures, missing_band, whole_categories
from insitu.domain.errors import InvalidInputError
from insitu.gate.known.data import KnownData
from insitu.wire.datasets import MAX_CATEGORIES, ColumnSummary

_MOST_DIFFERENT = 100_000  # words of one column; with more it is text, and not categories

Words = Sequence[str]


class HasMinimum(Protocol):
    @property
    def minimum_rows(self) -> int: ...


def summarise(
    version: DatasetVersion, wanted: Mapping[str, Words], chosen: HasMinimum
) -> tuple[dict[str, ColumnSummary], list[str]]:
    """Column → its summary, and notes for the steward on what too few rows stand behind.

    Raises:
        InvalidInputError: a column has no such summary: a range of text, categories of measurements.
        IntegrityError: the index can't be read.
    """
    asked = {name: words for name, words in wanted.items() if words}
    if not asked:
        return {}, []
    _check_fits(version, asked)
    known = KnownData.open(version.index)
    counts = _count_words(version, [name for name, words in asked.items() if "categories" in words])
    notes: list[str] = []
    found: dict[str, ColumnSummary] = {}
    for name, words in asked.items():
        column = _Column(version, known, name, counts.get(name), chosen.minimum_rows)
        found[name] = column.summary(words, notes)
    return found, notes


def _check_fits(version: DatasetVersion, asked: Mapping[str, Words]) -> None:
    kinds = dict(version.columns)
    for name, words in asked.items():
        kind = kinds[name]
        wrong = [word for word in words if word in _NOT_FOR.get(kind, ())]
        if wrong:
            raise InvalidInputError(
                f"column {name!r} is {_SPOKEN.get(kind, kind)}, and has no {wrong[0]}",
                code="publish-summary",
                hint=f"for it: {', '.join(word for word in _ALL if word not in _NOT_FOR[kind])}",
            )


_ALL = ("range", "quartiles", "categories", "missing")
_NOT_FOR: Mapping[str, tuple[str, ...]] = {"text": ("range", "quartiles"), "number": ("categories",)}
_SPOKEN = {"text": "text", "number": "measurements"}


class _Column:
    def __init__(
        self, version: DatasetVersion, known: KnownData, name: str, counts: Mapping[str, int] | None, k: int
    ) -> None:
        self._name, self._counts, self._k, self._known = name, counts, k, known
        kinds = dict(version.columns)
        self._kind = kinds[name]
        alike = [one for one, kind in version.columns if (kind == "text") == (self._kind == "text")]
        self._place = alike.index(name)

    def summary(self, words: Words, notes: list[str]) -> ColumnSummary:
        found = self._figures() if {"range", "quartiles"} & {*words} else Figures(None, None, 0.0)
        categories = self._categories() if "categories" in words else []
        told = ColumnSummary(
            range=found.range if "range" in words else None,
            quartiles=found.quartiles if "quartiles" in words else None,
            categories=categories,
            missing=missing_band(self._known.rows, self._missing(), self._k) if "missing" in words else None,
        )
        empty = [word for word in words if not getattr(told, word)]
        if empty:
            what = f"no {' and no '.join(empty)} of {self._name!r} is told"
            many = f", or there are more than {MAX_CATEGORIES}" if "categories" in empty else ""
            notes.append(f"{what}: too few rows stand behind it, of which {self._k} are needed{many}")
        return told

    def _figures(self) -> Figures:
        ordered = self._known.table.columns[self._place].ordered
        return figures(ordered, self._k, whole=self._kind == "integer")

    def _categories(self) -> list[str]:
        if self._kind == "integer":
            return whole_categories(self._known.table.columns[self._place].ordered, self._k)
        return common_categories(self._counts or {}, self._k)

    def _missing(self) -> int:
        if self._kind == "text":
            return int((self._known.text[:, self._place] == 0).sum())
        return self._known.rows - len(self._known.table.columns[self._place].ordered)


def _count_words(version: DatasetVersion, names: Iterable[str]) -> dict[str, Counter[str]]:
    """How many rows have which word, for columns of text; an empty cell is a missing one."""
    kinds = dict(version.columns)
    texts = [name for name in names if kinds[name] == "text"]
    counts = {name: Counter[str]() for name in texts}
    if not texts:
        return counts
    if version.format not in ("", "csv"):
        raise InvalidInputError(
            f"categories of text can't be counted in files of format {version.format}",
            code="publish-summary",
            hint="publish other summaries of that column, or none",
        )
    for path in _files(version):
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.reader(stream)
            header = [name.strip() for name in next(rows, [])]
            places = {name: header.index(name) for name in texts}
            for row in rows:
                for name, place in places.items() if row else ():
                    if word := row[place].strip():
                        counts[name][word] += 1
                        _check_few(name, counts[name])
    return counts


def _check_few(name: str, counts: Counter[str]) -> None:
    if len(counts) > _MOST_DIFFERENT:
        raise InvalidInputError(
            f"column {name!r} holds too many different words to be categories",
            code="publish-summary",
            limit=f"{_MOST_DIFFERENT}",
            hint="publish `missing` of it, or nothing",
        )


def _files(version: DatasetVersion) -> list[Path]:
    """Its copy at the site, which whoever asks for words has staged."""
    return [path for path in sorted(version.data.rglob("*")) if path.is_file()]
