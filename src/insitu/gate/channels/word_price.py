"""What a line of a new shape tells, in bits: the price of its words.

A shape that stands in the signed code as a text, or among those that libraries
print, is one of so many; other lines are paid word by word. A word of the code, of the field, of messages that libraries
print, or one that was said before is one of so many, too; any other is paid letter
by letter. The prices are those of a prefix code: a reader who knows the code and
these lists could get the line back from so many bits, so no choice of words tells
more (Kraft's inequality; Cover and Thomas, Elements of Information Theory, 5.2).

Of words that nobody knew it is told, too, how much more they look like pieces of an
encoding than like words (`channels/encoding_odds.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from math import log2
from typing import NamedTuple

from insitu.gate.channels.clock_times import TIME_MARKS
from insitu.gate.channels.code_texts import bare_shape
from insitu.gate.channels.code_words import CodeWords
from insitu.gate.channels.encoding_odds import WORD, odds_of
from insitu.gate.channels.installed_texts import NONE_INSTALLED, Installed
from insitu.gate.channels.library_texts import INSTALLED, LIBRARY_TEXTS
from insitu.gate.channels.line_shapes import NUMBER_MARK, RUN_MARK
from insitu.gate.channels.plain_words import PLAIN_WORDS
from insitu.gate.channels.progress_bars import BAR_MARKS

_PIECE = re.compile(r"[A-Za-z]+|.", re.DOTALL)
_KNOWN_SHAPE = 1.0  # whether it is one of the code's texts, or of those that libraries print
_OTHER_SPACING = 6.0  # a text of the code with other blanks or signs than there
_COMMON_SIGNS = frozenset(".,:_/()-'`=")
_COMMON, _RARE = log2(len(_COMMON_SIGNS)), log2(95 - 52 - 10 - 1 - len(_COMMON_SIGNS))
_NUMBER, _OTHER_MARK = 1.0, 2.0  # which kind of mark
_GATES_OWN = BAR_MARKS | TIME_MARKS
_WHICH_OF_THEM = log2(len(_GATES_OWN))
_ANY_CHARACTER = 21.0
_LETTER = log2(27)
_CODE_OR_PLAIN = 1.0
_MOST_WORDS = 20_000
_ALLOWED = 4.0  # bits of odds for an encoding, for each run of signs without a blank: people abbreviate
_LEAST = -4.0  # what a run takes away at most: plain words make up for little


class _Kinds(NamedTuple):
    """What each kind of piece costs, before it is said which one it is. Powers of two of these sum to one at most."""

    blank: float
    common: float
    rare: float
    mark: float
    strange: float
    known: float = 0.0
    said: float = 0.0
    spelled: float = 0.0
    installed: float = 0.0
    end: float = 5.0


_BEHIND_WORD = _Kinds(blank=1.0, common=1.7, rare=4.1, mark=4.0, strange=5.5)
_BEHIND_OTHER = _Kinds(
    blank=3.2, common=3.6, rare=5.0, mark=3.0, strange=6.5, known=1.4, said=2.7, spelled=4.0, installed=5.1, end=6.0
)


class NewLine(NamedTuple):
    """The price of a new line; `spelled` is what words that nobody knew are of it.

    `odds` are the bits by which those are likelier pieces of an encoding than words; None if there are no such words.
    """

    bits: float
    spelled: float
    odds: float | None = None


class _Sum(NamedTuple):
    """What was told of a line up to some place, and what may follow there."""

    bits: float
    spelled: float
    kinds: _Kinds

    def with_text(self, text: str, bits: float) -> _Sum:
        kinds = _BEHIND_WORD if _is_word(text[-1]) else _BEHIND_OTHER
        return _Sum(self.bits + self.kinds.installed + bits, self.spelled, kinds)


class WordPrice:
    """The words that one job's texts have said so far, and what the next ones cost.

    Args:
        code: what the signed code says, asked when a first line is priced.
        names: words of the datasets' columns.
        installed: what the packages say that the job's environment has.
    """

    def __init__(
        self,
        code: Callable[[], CodeWords] = CodeWords,
        names: Iterable[str] = (),
        installed: Installed = NONE_INSTALLED,
    ) -> None:
        self._code = code
        self._installed = installed
        self._names = frozenset(names)
        self._of_code: frozenset[str] | None = None
        self._said: dict[str, None] = {}
        self._names_said: set[str] = set()  # of letters and numbers

    def of_shape(self, shape: str) -> NewLine:
        """What a line of this new shape tells, its numbers aside."""
        texts = self._code().texts
        head, installed, tail = shape.partition(INSTALLED)
        bare = bare_shape(installed + tail if installed else shape)
        if bare in texts or bare in LIBRARY_TEXTS:
            known = _KNOWN_SHAPE + log2(len(texts) + len(LIBRARY_TEXTS)) + (_OTHER_SPACING if bare != shape else 0.0)
            where = self._word_by_word(head) if installed else NewLine(0.0, 0.0)
            return NewLine(known + where.bits, where.spelled, where.odds)
        return self._word_by_word(shape)

    def _word_by_word(self, shape: str) -> NewLine:
        """Where a text of the environment is cheaper than the words in it, it is said as one."""
        installed = self._installed()
        line = _Sum(_KNOWN_SHAPE, 0.0, _BEHIND_OTHER)
        at = 0
        by_the_piece: list[str] = []
        while at < len(shape):
            if line.kinds is _BEHIND_OTHER and (end := installed.longest(shape, at)) > at:
                words, text = self._in_pieces(shape[at:end], line), line.with_text(shape[at:end], installed.bits)
                if text.bits < words.bits:
                    line, at = text, end
                    by_the_piece.append(" ")
                    continue
            end = _PIECE.match(shape, at).end()  # type: ignore[union-attr]
            by_the_piece.append(shape[at:end])
            line, at = self._in_pieces(shape[at:end], line), end
        return NewLine(line.bits + line.kinds.end, line.spelled, self._odds_of_encoding("".join(by_the_piece)))

    def _odds_of_encoding(self, shape: str) -> float | None:
        """Bits that speak for pieces of an encoding in it, or against; None if all words are known."""
        total = None
        for run in shape.split():
            odds = [odds_of(word, self._is_known) for word in WORD.findall(run) if word not in self._names_said]
            if any(odds):
                total = (total or 0.0) + max(_LEAST, sum(odds) - _ALLOWED)
        return total

    def _is_known(self, word: str) -> bool:
        return word in PLAIN_WORDS or word in self._said or word in self._code_says

    @property
    def _code_says(self) -> frozenset[str]:
        if self._of_code is None:
            self._of_code = self._code().parts | self._names
        return self._of_code

    def _in_pieces(self, text: str, line: _Sum) -> _Sum:
        bits, spelled, kinds = line
        for piece in _PIECE.findall(text):
            if _is_word(piece):
                price, unknown = self._of_word(piece)
                spelled += price if unknown else 0.0
                bits += price
                kinds = _BEHIND_WORD
            else:
                price = _of_sign(piece, kinds)
                spelled += price if piece[0] > "~" and piece not in _GATES_OWN else 0.0
                bits += price
                kinds = _BEHIND_OTHER
        return _Sum(bits, spelled, kinds)

    def say(self, shape: str) -> None:
        """A line of this shape has left."""
        if len(self._said) < _MOST_WORDS:
            self._said.update((piece.lower(), None) for piece in _PIECE.findall(shape) if _is_word(piece))
            self._names_said.update(WORD.findall(shape))

    def _of_word(self, piece: str) -> tuple[float, bool]:
        """Bits, and whether nobody knew the word."""
        word, of_code = piece.lower(), self._code_says
        kinds = _BEHIND_OTHER
        prices = [kinds.spelled + _LETTER * (len(word) + 1)]
        rank = PLAIN_WORDS.get(word)
        if rank is not None:
            prices.append(kinds.known + _CODE_OR_PLAIN + _of_rank(rank))
        if word in of_code:
            prices.append(kinds.known + _CODE_OR_PLAIN + log2(len(of_code)))
        if word in self._said:
            prices.append(kinds.said + log2(len(self._said)))
        return min(prices) + _of_capitals(piece), len(prices) == 1


def _is_word(piece: str) -> bool:
    return piece[0].isascii() and piece[0].isalpha()


def _of_sign(piece: str, kinds: _Kinds) -> float:
    if piece == " ":
        return kinds.blank
    if piece == NUMBER_MARK:
        return kinds.mark + _NUMBER
    if piece == RUN_MARK:
        return kinds.mark + _OTHER_MARK
    if piece in _GATES_OWN:
        return kinds.mark + _OTHER_MARK + _WHICH_OF_THEM
    if piece in _COMMON_SIGNS:
        return kinds.common + _COMMON
    return kinds.rare + _RARE if " " < piece <= "~" else kinds.strange + _ANY_CHARACTER


def _of_rank(rank: int) -> float:
    """Zipf's law: the word of rank r comes with a probability that falls as 1 / r."""
    return log2((rank + 4) * _ZIPF)


_ZIPF = sum(1 / (rank + 4) for rank in range(len(PLAIN_WORDS)))


def _of_capitals(word: str) -> float:
    """All small, all large, the first one large, or any."""
    if word.islower():
        return 0.3
    if word.istitle():
        return 3.1
    return 4.0 if word.isupper() else 7.0 + len(word)
