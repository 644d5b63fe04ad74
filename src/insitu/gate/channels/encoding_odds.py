"""How much likelier a word is as a piece of an encoding than as something that people write, in bits.

Two ways to write a word down are compared. In an encoding each character is any of
an alphabet's: hex, base 32, letters of one case, base 64, base 85. People put parts
together: words, whose letters follow each other as they do in a language, capitals
at their beginning, numbers at their end (`DenseNet121Block3Conv2`). The difference of
both lengths is the logarithm of a likelihood ratio (Wald, Sequential Analysis, 1947), up to
costs that were set by hand. Over pieces of an encoding its sum rises by two to four bits a
character, however short they are cut; over words that people wrote it falls once the
account's allowance for each run of signs is taken off.

A word is given as it stands in the shape of a line (`channels/line_shapes.py`): a number is one mark
in it, and what its digits tell is charged elsewhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from itertools import pairwise
from math import log2
from typing import NamedTuple

from insitu.gate.channels.line_shapes import NUMBER_MARK
from insitu.gate.channels.plain_words import PLAIN_WORDS

_RARE_SIGNS = r"!#$%&*?@^~;+\\<>`{|}"  # that hardly ever stand between letters
_SIGNS = rf"[=_()-]{{0,2}}[{_RARE_SIGNS}][{_RARE_SIGNS}=_()-]{{0,4}}"
WORD = re.compile(rf"[A-Za-z{NUMBER_MARK}]+(?:{_SIGNS}[A-Za-z{NUMBER_MARK}]+)*")
_PART = re.compile(rf"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|{NUMBER_MARK}+|[^A-Za-z{NUMBER_MARK}]+")
_SHORTEST_KNOWN = 3  # letters: any two are a word somewhere
_EDGE = "^"
_UNSEEN = 0.3  # how often each pair of letters counts beyond what was seen
_LEAST_OF_PART = -3.0  # bits: a plain word makes up for little of what stands beside it

# Bits of each kind of part behind each other one, as the words in 286,000 texts and names of packages have
# them, some adjusted by hand, those of signs guessed; shorter for what lines say more often than code: numbers with
# a unit, single letters.
_SMALL, _TITLE, _CAPITALS, _CAPITAL, _NUMBER, _SIGN, _BOUND = "small", "Title", "CAPITALS", "C", "0", "+", ""
_FOLLOWS = {
    _BOUND: {_SMALL: 1.0, _TITLE: 1.5, _CAPITALS: 2.8, _CAPITAL: 3.5, _NUMBER: 3.0},
    _SMALL: {_TITLE: 2.6, _CAPITALS: 6.3, _CAPITAL: 6.8, _NUMBER: 3.0, _BOUND: 0.4, _SIGN: 7.0},
    _TITLE: {_TITLE: 0.9, _CAPITALS: 5.8, _CAPITAL: 6.4, _NUMBER: 4.0, _BOUND: 1.3, _SIGN: 7.0},
    _CAPITALS: {_TITLE: 1.4, _NUMBER: 3.0, _BOUND: 0.8, _SIGN: 7.0},
    _CAPITAL: {_TITLE: 1.3, _NUMBER: 2.2, _BOUND: 1.4, _SIGN: 7.0},
    _NUMBER: {_SMALL: 1.8, _TITLE: 3.0, _CAPITALS: 3.5, _CAPITAL: 3.9, _BOUND: 1.0, _SIGN: 5.0},
    _SIGN: {_SMALL: 1.0, _TITLE: 1.5, _CAPITALS: 2.8, _CAPITAL: 3.6, _NUMBER: 2.0},
}
_ONE_LETTER, _TWO_LETTERS = 1.0, 2.0  # beyond any letters: names of variables, units
_RARE_SIGN = log2(18)

Known = Callable[[str], bool]


class _Alphabet(NamedTuple):
    """Bits of each of its characters, and of a number in the middle of a word."""

    character: float
    number: float

    @classmethod
    def of(cls, letters: int, digits: int, signs: int = 0) -> _Alphabet:
        size = letters + digits + signs
        in_succession = 1 / (1 - digits / size)  # digits of a number, on average
        return cls(log2(size), in_succession * log2(size / digits))


_HEX, _ONE_CASE = _Alphabet.of(6, 10), _Alphabet.of(26, 6)
_ANY_CASE, _PRINTED = _Alphabet.of(52, 10), _Alphabet.of(52, 10, 23)
_LETTERS = log2(26)
_HEX_LETTERS = frozenset("abcdef")


def odds_of(word: str, known: Known) -> float:
    """Bits that speak for an encoding, less those against it; none if all of the word is known.

    Args:
        word: as `WORD` finds it.
        known: whether a part, in small letters, is a word that is known.
    """
    parts = [(part, _kind_of(part)) for part in _PART.findall(word)]
    bare = [
        part
        for part, kind in parts
        if kind is not _NUMBER and kind is not _SIGN and not (len(part) >= _SHORTEST_KNOWN and known(part.lower()))
    ]
    if not bare or (len(parts) == 1 and known(word.lower())):
        return 0.0
    kinds = [_BOUND, *(kind for _, kind in parts), _BOUND]
    joints = sum(_FOLLOWS[one][other] for one, other in pairwise(kinds))
    numbers, signs = kinds.count(_NUMBER), sum(len(part) for part, kind in parts if kind is _SIGN)
    letters = "".join(bare)
    return joints + max(
        sum(max(_LEAST_OF_PART, _as_written(part.lower()) - len(part) * one.character) for part in bare)
        - numbers * one.number
        + signs * (_RARE_SIGN - one.character)
        for one in ((_PRINTED,) if signs else _alphabets_of(letters))
    )


def _alphabets_of(letters: str) -> Iterable[_Alphabet]:
    yield _ANY_CASE
    if letters.islower() or letters.isupper():
        yield _ONE_CASE
        if _HEX_LETTERS.issuperset(letters.lower()):
            yield _HEX


def _kind_of(part: str) -> str:
    if part[0] == NUMBER_MARK:
        return _NUMBER
    if not part[0].isalpha():
        return _SIGN
    if part[-1].islower():
        return _SMALL if part[0].islower() else _TITLE
    return _CAPITALS if len(part) > 1 else _CAPITAL


@lru_cache(maxsize=1 << 13)
def _as_written(part: str) -> float:
    """What the letters of a part cost where they are a word's."""
    pairs = _pairs()
    bits = sum(pairs[pair] for pair in pairwise(f"{_EDGE}{part}{_EDGE}"))
    if len(part) < _SHORTEST_KNOWN:
        bits = min(bits, (_ONE_LETTER if len(part) == 1 else _TWO_LETTERS) + _LETTERS * len(part))
    return bits


@cache
def _pairs() -> dict[tuple[str, str], float]:
    """Bits of each letter behind each other one, as in the words of the field and of messages."""
    seen = Counter[tuple[str, str]]()
    for word in PLAIN_WORDS:
        if len(word) >= _SHORTEST_KNOWN:
            seen.update(pairwise(f"{_EDGE}{word}{_EDGE}"))
    letters = f"{_EDGE}abcdefghijklmnopqrstuvwxyz"
    total = {one: sum(seen[one, other] for other in letters) for one in letters}
    return {
        (one, other): log2((total[one] + _UNSEEN * len(letters)) / (seen[one, other] + _UNSEEN))
        for one in letters
        for other in letters
    }
