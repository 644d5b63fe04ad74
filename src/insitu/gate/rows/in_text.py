"""Does a piece of text hold cells of one of the dataset's rows?

One known value in a line is no evidence: a threshold, a label or a count may
equal a cell. Three or more different cells of *one* row are, if chance does not
explain them. A number that was printed with few digits fits many cells and says
little; each cell weighs what it tells: minus log2 of the share of rows that it
fits. A row is seen when the weights exceed log2 of the number of rows, plus the
ways to choose so many cells among the text's, plus a margin of eight bits.

Cells of *different* rows are evidence where each of them is a name: text that so few
rows share that it points at one. A vocabulary or a list of categories made of such
is a column of the dataset, though it spells no row.

Numbers are compared at the precision that they were printed with. Text cells
are compared by keyed hash: fields between separators, and runs of up to four
words.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb, log2
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insitu.gate.known.data import KnownData
from insitu.gate.readers.text import NUMBER

_MARGIN = 8.0
_MAX_CELLS = 4000  # a value that fits more cells than this is not followed
_MAX_TOKENS = 400  # of one line: a longer line is cut into pieces of so many
_WORDS = re.compile(r"[^\s,;|\t\"'()\[\]{}=:]+")
_FIELDS = re.compile(r"[,;|\t\"'()\[\]{}=]+")
_LONGEST_PHRASE = 4
_FEW_ROWS = 200  # text that one row in so many has, or one row alone, is a name
_LETTERS = re.compile(r"[^\W\d_]")
_LEAST_LETTERS = 4
MANY_NAMES = 8
"""So many different names are no accident."""


@dataclass(frozen=True)
class Hit:
    """One number or phrase of the text, and the cells that it fits."""

    what: str | float
    rows: NDArray[np.integer[Any]]
    columns: NDArray[np.integer[Any]]
    weight: float


class TextScan:
    """Compares text with one dataset."""

    def __init__(self, known: KnownData) -> None:
        self._known = known
        self._rows = known.rows
        self._cells = known.cells
        numeric = known.numbers.shape[1]
        width = numeric + known.text.shape[1]
        self._needed = max(1, min(3, width))
        self._hashes, self._hash_rows, self._hash_columns = known.words
        self._numeric = numeric

    def hits(self, line: str) -> list[Hit]:
        """The cells that each number and phrase in `line` fits."""
        found = [self._number(token) for token in NUMBER.findall(line)[:_MAX_TOKENS]]
        if len(self._hashes):
            found += [self._phrase(phrase) for phrase in sorted(_phrases(line))]
        return [hit for hit in found if hit is not None]

    def rows_in(self, hits: Sequence[Hit]) -> int:
        """How many of the dataset's rows stand in the text that gave `hits`."""
        once = list({hit.what: hit for hit in hits}.values())  # a value that is said twice is one cell
        if len(once) < self._needed:
            return 0
        weights: dict[int, list[float]] = defaultdict(list)
        columns: dict[int, set[int]] = defaultdict(set)
        for hit in once:
            met: set[int] = set()
            for row, column in zip(hit.rows.tolist(), hit.columns.tolist(), strict=True):
                columns[row].add(column)
                if row not in met:  # a value that fits two cells of a row is one of them
                    met.add(row)
                    weights[row].append(hit.weight)
        return sum(self._telling(of_row, len(columns[row]), len(once)) for row, of_row in weights.items())

    def names_in(self, hits: Sequence[Hit]) -> set[str]:
        """The text cells among `hits` that point at few rows."""
        most = max(1, self._rows // _FEW_ROWS)
        return {
            hit.what
            for hit in hits
            if isinstance(hit.what, str) and len(hit.rows) <= most and len(_LETTERS.findall(hit.what)) >= _LEAST_LETTERS
        }

    def _telling(self, weights: list[float], columns: int, tokens: int) -> bool:
        count = min(len(weights), columns)
        if count < self._needed:
            return False
        return sum(sorted(weights)[-count:]) >= log2(self._rows) + log2(comb(tokens, count)) + _MARGIN

    def _number(self, token: str) -> Hit | None:
        value = float(token)
        mantissa, _, exponent = token.lower().partition("e")
        decimals = len(mantissa.partition(".")[2]) - int(exponent or 0)
        half = 0.5 * 10.0 ** -min(max(decimals, -30), 30) if decimals else 1e-9 * abs(value)
        low = int(np.searchsorted(self._cells.values, value - half * 1.001, side="left"))
        high = int(np.searchsorted(self._cells.values, value + half * 1.001, side="right"))
        if not 0 < high - low <= _MAX_CELLS:
            return None
        return self._hit(value, self._cells.rows[low:high], self._cells.columns[low:high])

    def _phrase(self, phrase: str) -> Hit | None:
        asked = np.uint64(self._known.hash_of(phrase))
        low = int(np.searchsorted(self._hashes, asked, side="left"))
        high = int(np.searchsorted(self._hashes, asked, side="right"))
        if not asked or not 0 < high - low <= _MAX_CELLS:
            return None
        return self._hit(phrase.casefold(), self._hash_rows[low:high], self._hash_columns[low:high] + self._numeric)

    def _hit(self, what: str | float, rows: NDArray[np.integer[Any]], columns: NDArray[np.integer[Any]]) -> Hit:
        return Hit(what, rows, columns, -log2(min(1.0, len(rows) / self._rows)))


@lru_cache(maxsize=64)
def text_scan(known: KnownData) -> TextScan:
    """The scan for a dataset: prepared once in a process, however many channels look at it."""
    return TextScan(known)


class LineScan:
    """Looks at lines one by one, each together with the few before it: rows may be printed down the page."""

    def __init__(self, known: Sequence[KnownData], *, together: int = 8) -> None:
        self._scans = [text_scan(one) for one in known]
        self._recent: list[deque[list[Hit]]] = [deque(maxlen=together) for _ in self._scans]
        self._names: list[set[str]] = [set() for _ in self._scans]

    def rows_in(self, line: str) -> int:
        """Rows that stand in `line`, or in it and the lines before it."""
        found = 0
        for scan, recent, names in zip(self._scans, self._recent, self._names, strict=True):
            hits = scan.hits(line)
            names.update(scan.names_in(hits))
            rows = scan.rows_in(hits)
            if hits and not rows:
                recent.append(hits)
                rows = scan.rows_in([hit for of_line in recent for hit in of_line])
            found += rows
        return found

    @property
    def names(self) -> int:
        """How many different names of one dataset's rows stand in all lines together."""
        return max((len(names) for names in self._names), default=0)


def rows_in_text(known: Sequence[KnownData], text: str) -> int:
    """The largest number of rows of one dataset that stand in `text`, line by line and across lines."""
    most = 0
    for one in known:
        scan = LineScan([one])
        most = max(most, sum(scan.rows_in(piece) for line in text.splitlines() for piece in pieces(line)))
    return most


def pieces(line: str) -> list[str]:
    """A very long line in overlapping parts, so that no row hides in its length."""
    if len(line) <= 4000:
        return [line]
    return [line[start : start + 4000] for start in range(0, len(line), 3500)]


def _phrases(line: str) -> set[str]:
    words = _WORDS.findall(line)[:_MAX_TOKENS]
    phrases = {field.strip() for field in _FIELDS.split(line)[:_MAX_TOKENS]}
    for length in range(1, _LONGEST_PHRASE + 1):
        phrases |= {" ".join(words[at : at + length]) for at in range(len(words) - length + 1)}
    return {phrase for phrase in phrases if 1 < len(phrase) <= 200}
