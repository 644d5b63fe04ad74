"""What an output keeps of its training data by the way it is built, seen by shape and content, never by class name.

- `rows_kept`: an array that is as long as the dataset has rows (a weight, label or distance
  for each), that lists rows by number (support vectors, core samples), or whose
  values all stand in one column of the dataset (isotonic thresholds, a kernel density).
- `extremes`: smallest or largest values of columns (min-max scalers, ends of quantiles): each is somebody's.
- `rare_words`: words that fewer than `SMALLEST_GROUP` rows hold (vocabularies, categories).
- `words`: how many different words there are, besides published names.

The scan for rows (`rows/scan.py`) looks for cells of one row together; these look for what it can't see.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from insitu.gate.contents import FoundNumbers, FoundText, Numbers
from insitu.gate.effort import Effort
from insitu.gate.known.data import KnownData
from insitu.gate.known.table import Column, Floats
from insitu.gate.rows.in_text import MANY_NAMES
from insitu.gate.spellings import words_in_disguise

Hashes = NDArray[np.uint64]
SMALLEST_GROUP = 10  # rows: what stands for fewer is about persons
_LEAST_ROWS = 50  # of a dataset, for a length to say something
_LEAST_VALUES = 20  # of a stored column
_MOST_VALUES = 100_000
_LEAST_EXTREMES = 3
_EXACT = 1e-6  # relative: single precision keeps a cell this well
_MOST_WORDS = 20_000
_WORD = re.compile(r"[^\W\d_][\w.@+-]{1,60}(?: [^\W\d_][\w.-]{0,40}){0,3}")


@dataclass(frozen=True)
class Structures:
    rows_kept: str = ""  # what an array keeps, in our words
    where: str = ""
    extremes: int = 0
    rare_words: int = 0
    words: int = 0


def structures_in(
    numbers: Sequence[FoundNumbers],
    texts: Sequence[FoundText],
    known: Sequence[KnownData],
    published: Collection[str],
    effort: Effort,
) -> Structures:
    """What is kept in these arrays and words of the datasets that the job read."""
    kept, where = _rows_kept([found for found in numbers if not found.raw], known, effort)
    found = words_in(texts, published)
    return Structures(
        rows_kept=kept,
        where=where,
        extremes=max((_extremes(found, one, effort) for one in known for found in numbers if not found.raw), default=0),
        rare_words=max((_rare_words(found, texts, one, effort) for one in known), default=0),
        words=len(found),
    )


# ── Arrays ──────────────────────────────────────────────────────────────────


def _rows_kept(numbers: Sequence[FoundNumbers], known: Sequence[KnownData], effort: Effort) -> tuple[str, str]:
    for found in numbers:
        effort.check_time()
        for one in known:
            if one.rows < _LEAST_ROWS:
                continue
            if one.rows in found.values.shape:
                return "an array as long as the dataset", found.where
            if _is_of_one_column(found.values, one):
                return "an array of one column's values", found.where
            if _lists_rows(found.values, one.rows):
                return "a list of rows by number", found.where
    return "", ""


def _is_of_one_column(values: Numbers, known: KnownData) -> bool:
    """Whether an array's values all stand in one column: of fractions, since small whole numbers stand everywhere."""
    flat = np.unique(np.asarray(values, dtype=np.float64).reshape(-1)) if _is_line(values) else np.empty(0)
    flat = flat[np.isfinite(flat) & (flat != np.rint(flat))]
    if len(flat) < _LEAST_VALUES:
        return False
    return any(_share_in(flat, column) > 0.9 for column in known.table.columns if len(column.distinct) > _LEAST_ROWS)


def _is_line(values: Numbers) -> bool:
    return _LEAST_VALUES <= values.size <= _MOST_VALUES and max(values.shape, default=0) == values.size


def _share_in(values: Floats, column: Column) -> float:
    cells = column.distinct
    at = np.clip(np.searchsorted(cells, values), 1, len(cells) - 1)
    nearest = np.minimum(np.abs(cells[at] - values), np.abs(cells[at - 1] - values))
    return float((nearest <= _EXACT * np.abs(values)).mean())


def _lists_rows(values: Numbers, rows: int) -> bool:
    """Whole numbers that rise, are smaller than the number of rows, leave some out, and are many of them."""
    if (
        values.dtype.kind not in "iu"
        or values.ndim != 1
        or not rows // 10 <= len(values) < rows
        or len(values) < _LEAST_ROWS
    ):
        return False
    steps = np.diff(values.astype(np.int64))
    return bool(values[0] >= 0 and values[-1] < rows and (steps > 0).all() and len(np.unique(steps)) > 3)


def _extremes(found: FoundNumbers, known: KnownData, effort: Effort) -> int:
    """How many values of an array are its columns' smallest, or largest, one for each column in turn."""
    values = found.values
    if not _LEAST_EXTREMES <= values.size <= 4 * max(known.table.width, 1):
        return 0
    effort.check_time()
    flat = np.asarray(values, dtype=np.float64).reshape(-1)
    columns = [column for column in known.table.columns if len(column.distinct) > _LEAST_ROWS]
    lows = np.array([column.ordered[0] for column in columns])
    highs = np.array([column.ordered[-1] for column in columns])
    counts = [
        sum(bool((np.abs(flat - end) <= _EXACT * abs(end)).any()) for end in ends if end != np.rint(end))
        for ends in (lows, highs)
    ]
    found_ends = max(counts, default=0)
    return found_ends if found_ends >= _LEAST_EXTREMES else 0


# ── Words ───────────────────────────────────────────────────────────────────


def words_in(texts: Iterable[FoundText], published: Collection[str]) -> frozenset[str]:
    """Different words and short phrases, besides the names that a site publishes."""
    words: set[str] = set()
    for found in texts:
        if found.guessed:
            continue
        for match in _WORD.finditer(found.text):
            words.add(match.group())
            words.update(match.group().split())
            if len(words) > _MOST_WORDS:
                return frozenset(words)
    return frozenset(words) - set(published)


def hashed_in(cells: Hashes, hashed: int) -> bool:
    """Whether a keyed hash is one of a dataset's cells, which stand in ascending order."""
    at = int(np.searchsorted(cells, np.uint64(hashed)))
    return bool(hashed) and at < len(cells) and int(cells[at]) == hashed


def _rare_words(words: Iterable[str], texts: Sequence[FoundText], known: KnownData, effort: Effort) -> int:
    """As they are; or, if they are many, in another spelling."""
    plain = rare_words(words, known, effort)
    if plain >= MANY_NAMES or not len(known.words[0]):
        return plain
    disguised = rare_words(words_in_disguise(texts), known, effort)
    return disguised if disguised >= MANY_NAMES else plain


def rare_words(words: Iterable[str], known: KnownData, effort: Effort) -> int:
    """How many of these are the whole cell of a few rows alone."""
    effort.check_time()
    hashes = np.unique(np.array([known.hash_of(word) for word in words], dtype=np.uint64))
    hashes = hashes[hashes != 0]
    cells = known.words[0]
    if not len(hashes) or not len(cells):
        return 0
    counts = np.searchsorted(cells, hashes, side="right") - np.searchsorted(cells, hashes, side="left")
    return int(((counts > 0) & (counts < SMALLEST_GROUP)).sum())
