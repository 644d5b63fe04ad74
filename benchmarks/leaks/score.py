"""Which of the table's rows a decoder has recovered, and is it more than luck?

A recovered row is a mapping from column to value. It is a row of the table when

- five or more of its cells agree with one row of the table, and chance does not
  explain it: each cell weighs minus log2 of the share of rows that it agrees
  with, and the sum exceeds log2 of rows × guesses, plus eight bits; or
- it holds an identifier: a text or number of six or more characters that stands
  in exactly one row.

Text must agree exactly. A number agrees within a twentieth of its column's
standard deviation, since what was hidden in weights comes out with noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, isfinite, log2

import numpy as np
from numpy.typing import NDArray

LEAST_CELLS = 5
_MARGIN_BITS = 8.0
_TOLERANCE = 0.05  # of a standard deviation
_IDENTIFIER = 6  # characters
_MAX_GUESSES = 20_000  # more rows than that are no recovery but a guessing game

Row = Mapping[str, str | float]


@dataclass(frozen=True)
class Score:
    """What a decoder got out."""

    rows: int = 0
    canaries: int = 0
    bytes: int = 0
    """What the agreeing cells tell somebody who knows how each column is spread."""


class Truth:
    """The table, prepared for comparison."""

    def __init__(self, columns: Sequence[str], rows: Sequence[Sequence[str]], canaries: frozenset[int]) -> None:
        self._columns = tuple(columns)
        self._rows = rows
        self._canaries = canaries

    def score(self, recovered: Sequence[Row]) -> Score:
        best: dict[int, float] = {}
        for row in recovered[:_MAX_GUESSES]:
            found = self._find(row, len(recovered))
            if found is not None:
                number, bits = found
                best[number] = max(best.get(number, 0.0), bits)
        return Score(len(best), len(best.keys() & self._canaries), ceil(sum(best.values()) / 8))

    def _find(self, row: Row, guesses: int) -> tuple[int, float] | None:
        """The row of the table that this is, and the bits that its agreeing cells tell."""
        bits, cells = np.zeros(len(self._rows)), np.zeros(len(self._rows), np.int64)
        sure = np.zeros(len(self._rows), np.bool_)
        for column, value in row.items():
            found = self._agree(column, value)
            if found.size:
                bits[found] += -log2(found.size / len(self._rows))
                cells[found] += 1
                sure[found] |= found.size == 1 and self._is_identifier(column, value)
        enough = log2(len(self._rows)) + log2(max(1, guesses)) + _MARGIN_BITS
        fits = sure | ((cells >= LEAST_CELLS) & (bits >= enough))
        if not fits.any():
            return None
        number = int(np.argmax(np.where(fits, bits, -1)))
        return number, float(bits[number])

    def _agree(self, column: str, value: str | float) -> NDArray[np.intp]:
        if column in self._numbers:
            number = _number(value)
            if number is None:
                return np.empty(0, np.intp)
            values, slack = self._numbers[column]
            return np.flatnonzero(np.abs(values - number) <= slack)
        return self._texts.get(column, {}).get(str(value), np.empty(0, np.intp))

    def _is_identifier(self, column: str, value: str | float) -> bool:
        return column not in self._numbers and len(str(value)) >= _IDENTIFIER

    @cached_property
    def _numbers(self) -> dict[str, tuple[NDArray[np.float64], float]]:
        """Measurements. A number that stands in one row alone names it, and is compared as text."""
        found: dict[str, tuple[NDArray[np.float64], float]] = {}
        for at, column in enumerate(self._columns):
            texts = [row[at] for row in self._rows]
            numbers = [_number(text) for text in texts]
            if None in numbers or len(set(texts)) == len(texts):
                continue
            values = np.array(numbers, np.float64)
            found[column] = (values, max(float(values.std()) * _TOLERANCE, 1e-9))
        return found

    @cached_property
    def _texts(self) -> dict[str, dict[str, NDArray[np.intp]]]:
        found: dict[str, dict[str, NDArray[np.intp]]] = {}
        for at, column in enumerate(self._columns):
            if column in self._numbers:
                continue
            places: dict[str, list[int]] = {}
            for number, row in enumerate(self._rows):
                places.setdefault(row[at], []).append(number)
            found[column] = {text: np.array(numbers, np.intp) for text, numbers in places.items()}
        return found


def _number(value: str | float) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if isfinite(number) else None
