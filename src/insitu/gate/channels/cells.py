"""Which of a dataset's cells a number or a phrase fits: the looking-up behind what is said while a job runs.

`rows/in_text.py` asks the same of a file, once, and may take its time. Here an
answer is wanted for each metric and each log line, thousands of times a second,
so several numbers are looked up by one binary search, phrases that were met
before are remembered, and a table of one byte a slot says of most others that
no cell has such a hash. What fits too many rows to tell them apart is no hit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, cached_property, lru_cache
from math import exp, log2
from typing import NamedTuple

import numpy as np

from insitu.gate.known.data import KnownData
from insitu.gate.readers.text import NUMBER

_NEARBY = 64  # widths around a value over which cells are counted, to tell how likely a fit by chance is
_MOST_PHRASES = 50_000  # remembered; then forgotten all at once
_MOST_FRAMES = 5_000
_MOST_SLOTS = 1 << 24
_LONGEST_PHRASE = 4  # words
_LONGEST_TEXT = 200
_DIGIT_RUN = re.compile("[0-9]+")
_MARK = "\x00"
_MOST_TOKENS = 400  # of one line

_WORDS = re.compile(r"[^\s,;|\t\"'()\[\]{}=:]+")
_FIELDS = re.compile(r"[,;|\t\"'()\[\]{}=]+")
_UNLIKE_RUNS = re.compile(r"[:.]|(?:\S+ +){4}|^ *[0-9]+ [^ ]+ [^ ]+ *$|^ *[^ ]+ [^ ]+ [0-9]+ *$")
_LONGEST_FIELD = 60  # longer text is no cell that is a name, a code or an address
_NO_LETTER = re.compile(r"[^A-Za-z\u0080-\uffff]+")
_LONG_ENOUGH = re.compile(r"[0-9]+\.[0-9]+|[0-9]{3,}")
_SHORTEST_BACKWARDS = 6
_SOME_DIGIT = re.compile("[0-9]")
_LIKE_DATE = re.compile(r"[0-9]+[^0-9]+[0-9]+[^0-9]+[0-9][^A-Za-z]*")


class Hit(NamedTuple):
    """One number or phrase, and the rows with a cell that it fits."""

    what: float | str
    rows: list[int]
    columns: list[int]  # of each of `rows`, the column
    weight: float  # bits that it tells about a row
    by_chance: float  # the chance that such a value fits some cell though nobody looked there
    identifies: bool = False  # a name or a code that hardly any other row has: alone it is too much


class Number(NamedTuple):
    """A number that was said with so many decimals: `half` of its last digit's worth is left open.

    `unit` is what the last digit that is no zero counts: round numbers meet round cells more often than others.
    """

    value: float
    half: float
    unit: float


class Said(NamedTuple):
    """What a piece of text says.

    `phrases` are those with digits, `pairs` those of them that are a number beside a word. All others follow from the `frame`, which is the text with a mark for each run of
    digits: the lines of a log have few different ones, so what a frame says is looked up once.
    """

    numbers: list[Number]
    phrases: set[str]
    pairs: set[str]
    frame: str
    backwards: bool = False


_NOT_MET = Hit("", [], [], 0.0, 0.0)
"""For a number that was not looked up before."""


def read_text(text: str, *, phrases: bool) -> Said:
    """The numbers of `text`, each as precise as it was printed, and its words and runs of up to four words."""
    numbers = _read_numbers(NUMBER.findall(text)[:_MOST_TOKENS])
    if not phrases:
        return Said(numbers, set(), set(), "")
    return Said(numbers, *_phrases_with_digits(text), _DIGIT_RUN.sub(_MARK, text))


def read_backwards(text: str, said: Said) -> Said:
    """What `text` says from its end to its beginning; `said` is what it says the other way round."""
    numbers = _read_numbers([token[::-1] for token in _LONG_ENOUGH.findall(text)[:_MOST_TOKENS]])
    phrases = {phrase[::-1] for phrase in said.phrases if len(phrase) >= _SHORTEST_BACKWARDS}
    # A number beside a word tells little, and its other way round less.
    return Said(numbers, phrases, set(), said.frame, backwards=True)


def _read_numbers(tokens: list[str]) -> list[Number]:
    """Those that are finite."""
    return [number for token in tokens if (number := _read_number(token)).value - number.value == 0.0]


@lru_cache(maxsize=1 << 15)
def _read_number(token: str) -> Number:
    value = float(token)
    mantissa, _, exponent = token.partition("e") if "e" in token else token.partition("E")
    fraction = mantissa.partition(".")[2]
    power = int(exponent) if exponent else 0
    decimals = len(fraction) - power
    half = 0.5 * _worth(decimals) if decimals else 1e-9 * (1 + abs(value))
    return Number(value, half, _worth(len(fraction.rstrip("0")) - power))


@cache
def _worth(decimals: int) -> float:
    """What a digit at that place behind the point counts."""
    return 10.0 ** -min(max(decimals, -30), 30)


def rounded_number(value: float, digits: int) -> Number:
    """`value` as it leaves a metric: with so many significant digits."""
    return _read_number(f"{value:.{digits - 1}e}")


def _phrases_with_digits(text: str) -> tuple[set[str], set[str]]:
    """Words with digits, in runs of up to four, and what has some between commas, quotes and the like; and pairs.

    What has no letter goes with one word before or behind it (`ward 12`), and alone if it is more than a number (a
    date): in longer runs hardly any two lines of a log would have one in common, and each would have to be looked up.
    """
    words = _WORDS.findall(text)[:_MOST_TOKENS]
    found: set[str] = set()
    pairs: set[str] = set()
    for at, word in enumerate(words):
        if word.isalpha() or not _SOME_DIGIT.search(word):
            continue
        if not _NO_LETTER.fullmatch(word):
            for first in range(max(0, at - _LONGEST_PHRASE + 1), at + 1):
                ends = range(at + 1, min(len(words), first + _LONGEST_PHRASE) + 1)
                found.update([" ".join(words[first:end]) for end in ends])
        elif word.isdigit() or _LIKE_DATE.fullmatch(word):
            if at and words[at - 1].isalpha():
                pairs.add(f"{words[at - 1]} {word}")
            if at + 1 < len(words) and words[at + 1].isalpha():
                pairs.add(f"{word} {words[at + 1]}")
            if not word.isdigit():
                pairs.add(word)
    pairs.update([field for field in _fields(text) if _SOME_DIGIT.search(field)])
    return found, pairs


def phrases_of_frame(frame: str) -> set[str]:
    """The phrases of a text that have no digit."""
    found: set[str] = set()
    runs: list[str] = []  # that end at the word before
    for word in _WORDS.findall(frame)[:_MOST_TOKENS]:
        runs = [word, *(f"{run} {word}" for run in runs[: _LONGEST_PHRASE - 1])] if _MARK not in word else []
        found.update(runs)
    found.update(field for field in _fields(frame) if _MARK not in field)
    return found


def _fields(text: str) -> list[str]:
    """What stands between commas, quotes and the like, where it is more than a run of words."""
    fields = _FIELDS.split(text)[:_MOST_TOKENS]
    return [field.strip() for field in fields if len(field) <= _LONGEST_FIELD and _UNLIKE_RUNS.search(field)]


def _could_identify(phrase: str) -> bool:
    """Two words, a word with digits, or a long one: `Ada Lovelace`, `P004711`. Not a date, which lines begin with."""
    if not any(character.isalpha() for character in phrase):
        return False
    return len(phrase) >= 8 or (len(phrase) >= 6 and any(c.isdigit() or c == " " for c in phrase))


@cache
def _chance(nearby: int) -> float:
    """How often a value meets a cell, where so many lie nearby as if they had been thrown there."""
    return 1 - exp(-nearby / _NEARBY)


class LiveCells:
    """The cells of one dataset version, ready to be asked."""

    def __init__(self, known: KnownData) -> None:
        self._known = known
        self.rows = known.rows
        self.width = known.numbers.shape[1] + known.text.shape[1]
        self.has_text = known.text.shape[1] > 0
        self.cells_needed = max(1, min(3, self.width))
        self._values, self._cell_rows, self._cell_columns = (
            np.asarray(part) for part in (known.cells.values, known.cells.rows, known.cells.columns)
        )
        # Of many rows, a fit that leaves more than this tells five bits at most, and following it costs the most.
        self._most_rows = max(128, min(256, self.rows // 32))
        self._weights = [0.0, *(-log2(count / self.rows) for count in range(1, min(self._most_rows, self.rows) + 1))]
        self._phrases: dict[str, Hit | None] = {}
        self._frames: dict[tuple[str, bool], list[Hit]] = {}
        self._numbers: dict[Number, Hit | None] = {}

    def numbers(self, numbers: Sequence[Number]) -> list[Hit | None]:
        """For each of `numbers` the cells that it fits."""
        if not len(self._values):
            return [None] * len(numbers)
        known = self._numbers
        hits = [known.get(number, _NOT_MET) for number in numbers]
        if _NOT_MET in hits:
            fresh = [number for number, hit in zip(numbers, hits, strict=True) if hit is _NOT_MET]
            if len(known) + len(fresh) > _MOST_PHRASES:
                known.clear()
                fresh = list(numbers)
            known.update(zip(fresh, self._look_up_numbers(fresh), strict=True))
            return [known[number] for number in numbers]
        return hits

    def _look_up_numbers(self, numbers: Sequence[Number]) -> list[Hit | None]:
        given = np.array(numbers)
        middle, half = given[:, 0], given[:, 1] * 1.001
        near = _NEARBY * np.maximum(half, given[:, 2] / 2)
        spans: list[list[int]] = self._values.searchsorted(
            np.stack((middle - half, middle + half, middle - near, middle + near), axis=1)
        ).tolist()
        return [self._number(number.value, *span) for number, span in zip(numbers, spans, strict=True)]

    def _number(self, value: float, low: int, high: int, near_low: int, near_high: int) -> Hit | None:
        if not 0 < high - low <= self._most_rows:
            return None
        rows, columns = self._cell_rows[low:high].tolist(), self._cell_columns[low:high].tolist()
        return self._hit(value, rows, columns, _chance(near_high - near_low - 1))

    def phrases(self, said: Said) -> list[Hit]:
        """The text cells that a text says."""
        if not self.has_text:
            return []
        with_digits = [hit for phrase in (*said.phrases, *said.pairs) if (hit := self._phrase(phrase)) is not None]
        return [*self._of_frame(said.frame, said.backwards), *with_digits]

    def _of_frame(self, frame: str, backwards: bool) -> list[Hit]:
        known = self._frames
        if (frame, backwards) not in known:
            if len(known) >= _MOST_FRAMES:
                known.clear()
            phrases = phrases_of_frame(frame)
            if backwards:
                phrases = {phrase[::-1] for phrase in phrases if len(phrase) >= _SHORTEST_BACKWARDS}
            known[frame, backwards] = [hit for phrase in phrases if (hit := self._phrase(phrase)) is not None]
        return known[frame, backwards]

    def _phrase(self, phrase: str) -> Hit | None:
        known = self._phrases
        if phrase in known:
            return known[phrase]
        if len(known) >= _MOST_PHRASES:
            known.clear()
        hit = known[phrase] = self._look_up(phrase) if 1 < len(phrase) <= _LONGEST_TEXT else None
        return hit

    def _look_up(self, phrase: str) -> Hit | None:
        asked = self._known.hash_of(phrase)
        if not asked or not self._slots[asked & (len(self._slots) - 1)]:
            return None
        hashes, rows, columns = self._known.words
        low, high = (int(hashes.searchsorted(np.uint64(asked), side)) for side in ("left", "right"))
        if not 0 < high - low <= self._most_rows:
            return None
        among = columns[low:high].astype(np.int64) + self._known.numbers.shape[1]
        hit = self._hit(phrase.casefold(), rows[low:high].tolist(), among.tolist(), (high - low) / self.rows)
        return hit._replace(identifies=high - low <= max(2, self.rows // 500) and _could_identify(phrase))

    def _hit(self, what: float | str, rows: list[int], columns: list[int], by_chance: float) -> Hit:
        return Hit(what, rows, columns, self._weights[min(len(rows), len(self._weights) - 1)], by_chance)

    @cached_property
    def _slots(self) -> bytes:
        """A byte for each ending that a hash may have: whether one of the dataset's has it."""
        hashes = self._known.words[0]
        size = min(_MOST_SLOTS, 1 << max(10, (8 * len(hashes)).bit_length()))
        slots = np.zeros(size, dtype=np.uint8)
        slots[(np.asarray(hashes) & np.uint64(size - 1)).astype(np.int64)] = 1
        return slots.tobytes()


@lru_cache(maxsize=64)
def live_cells(known: KnownData) -> LiveCells:
    """The cells of a dataset: prepared once in a process, however many channels look at them."""
    return LiveCells(known)
