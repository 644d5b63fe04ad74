"""Bytes in disguise that come in small pieces: four letters a word, one character a line.

`encoded_text.py` looks for long runs; this looks at what a stream says as a whole.
A word is odd if people do not write such words: letters and digits in turns,
capitals within, no vowels for long, and whole numbers of five digits or more that
do not count like steps. The last words of lines, put together, may be base 64. Identifiers, versions and names of layers are odd, too, so
a job may say two dozen different ones, and those that its signed code says; then
lines that bring more are held. And lines of a character or two are read as the one
line that they are.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

from insitu.gate.channels.code_words import CodeWords
from insitu.gate.channels.metric_steps import StepGate
from insitu.gate.encoded_text import encoded_run
from insitu.gate.readers.decode_text import DENSE
from insitu.gate.readers.encoded import tells_itself

_MOST_ODD_CHARACTERS = 200  # of different odd words, in a job's stream: at five bits each, 125 bytes
_MOST_IN_A_LINE = 40
_GROUPS = 8
_MOST_REMEMBERED = 20_000
_SHORT_LINE = 3
_SHORT_LINES = 200  # in a row that are remembered
_MOST_SHORT = 24  # in a row that leave: an empty line or a bracket is one

_MOST_PIECES = 24  # last words of lines that are read as one
_LEAST_JOINED = 24  # characters

_WORD = re.compile(r"[A-Za-z0-9]{3,}")
_PIECE = re.compile(r"(?=.*[A-Z0-9])(?=.*[A-Za-z])[A-Za-z0-9+/_=-]{4,64}")
_LONG_NUMBER = re.compile(r"(?<![0-9.])[0-9]{5,}(?![0-9.])")
_LETTERS = re.compile(r"[A-Za-z_]+")
_TURNS = re.compile(r"[0-9][A-Za-z]+[0-9]|[A-Za-z][0-9]+[A-Za-z]")
_CAPITALS_WITHIN = re.compile(r"[a-z][A-Z]+[a-z][A-Z]|[A-Z]{2}[a-z][A-Z]")
_NO_VOWEL = re.compile(r"[b-df-hj-np-tv-xzB-DF-HJ-NP-TV-XZ]{5}")
_ESCAPED = re.compile(r"(?:[%\\=]x?[0-9A-Fa-f]{2}){4}")
_SIGNS = re.compile(r"[!#$%&*?@^`~{}<>;\\+]")


class Disguise:
    """What one stream has said so far that was no ordinary word."""

    def __init__(self, code: Callable[[], CodeWords] = CodeWords) -> None:
        self._code = code
        self._odd: set[str] = set()
        self._ordinary: set[str] = set()
        self._odd_characters = 0
        self._short = ""
        self._short_lines = 0
        self._counting = StepGate()
        self._pieces: deque[str] = deque(maxlen=_MOST_PIECES)

    def is_worn_by(self, line: str) -> bool:
        """Whether `line`, with those before it, looks like bytes in disguise. If not, it counts as said."""
        if self._is_piece_of_many(line) or self._is_decoded(line):
            return True
        if _may_escape(line) and _ESCAPED.search(line):
            return True
        if _is_full_of_signs(line):
            return True
        words = _WORD.findall(line)
        if _are_groups(words):
            return True
        odd = self._odd_among(words)
        odd |= {found[0] for found in _LONG_NUMBER.finditer(line) if not self._counts(line, found)}
        if not odd:
            return False
        odd -= self._code().words
        in_line = sum(map(len, odd))
        characters = self._odd_characters + in_line
        if characters > _MOST_ODD_CHARACTERS or in_line > _MOST_IN_A_LINE:
            return True
        self._odd |= odd
        self._odd_characters = characters
        return False

    def _is_decoded(self, line: str) -> bool:
        """Whether the last words of lines, put together from any of them on, are text or a stream in base 16, 32 or 64."""
        last = line.rsplit(None, 1)[-1] if line and not line.isspace() else ""
        if not _PIECE.fullmatch(last):
            return False
        self._pieces.append(last.rstrip("="))
        joined = ""
        for piece in reversed(self._pieces):
            joined = piece + joined
            if len(joined) >= _LEAST_JOINED and any(
                one.alphabet.fullmatch(joined) and tells_itself(one.decode(joined), whole=False) for one in DENSE
            ):
                return True
        return False

    def _odd_among(self, words: list[str]) -> set[str]:
        """Those that are odd and were not said before."""
        fresh = [word for word in words if not word.isdigit() and word not in self._ordinary and word not in self._odd]
        if not fresh:
            return set()
        if len(self._ordinary) > _MOST_REMEMBERED:
            self._ordinary.clear()
        odd = {word for word in fresh if _is_odd(word)}
        self._ordinary.update(word for word in fresh if word not in odd)
        return odd

    def _counts(self, line: str, found: re.Match[str]) -> bool:
        """Whether a number was said before, or goes on like a step under the word that stands before it."""
        digits = found[0]
        before = _LETTERS.search(line[max(0, found.start() - 40) : found.start()][::-1])
        name = f"{before[0] if before else ''}{line[max(0, found.start() - 1)]}"  # `step 10000/50000`: two series
        if digits in self._odd or self._counting.objection_to("", name, int(digits[:9])):
            return digits in self._odd
        self._counting.leaves("", name, int(digits[:9]))
        return True

    def _is_piece_of_many(self, line: str) -> bool:
        stripped = line.strip()
        if len(stripped) > _SHORT_LINE or not stripped:
            if stripped:
                self._short, self._short_lines = "", 0
            return False
        self._short = (self._short + stripped)[-_SHORT_LINES:]
        self._short_lines += 1
        return self._short_lines > _MOST_SHORT or encoded_run(self._short, least=16)


def _is_odd(word: str) -> bool:
    if word.isdigit():
        return False
    if len(word) >= 4 and (_TURNS.search(word) or _CAPITALS_WITHIN.search(word)):
        return True
    return len(word) >= 6 and (_NO_VOWEL.search(word) is not None or _is_hex(word))


def _are_groups(words: list[str]) -> bool:
    """Many words of one length, and odd ones among them: `5a75 7a75 7175 6120`, as dumps are printed."""
    if len(words) < _GROUPS:
        return False
    lengths = [len(word) for word in words]
    often = max([lengths.count(length) for length in set(lengths)])
    return often >= 0.8 * len(words) and sum(_is_odd(word) for word in words) >= 2


def _is_hex(word: str) -> bool:
    return any(letter.isdigit() for letter in word) and re.fullmatch(r"[0-9a-f]+|[0-9A-F]+", word) is not None


def _may_escape(line: str) -> bool:
    return line.count("%") + line.count("\\") + line.count("=") >= 4


def _is_full_of_signs(line: str) -> bool:
    """Base 85 has a sign in three characters; prose has none of these."""
    return len(line) >= 20 and len(_SIGNS.findall(line)) * 6 > len(line)
