"""Bytes as ordinary words, one word for each: what no look at the form of a text can tell from prose.

A word list as PGP's (Juola and Zimmermann, 1996), from syllables.
"""

from __future__ import annotations

from collections.abc import Sequence

_HEADS = "re un co in de ex sub pro over out mis fore inter trans under up".split()
_TAILS = "ceed form late mark port pose press scribe sent serve side sign spect tain take turn".split()
WORDS = [head + tail for head in _HEADS for tail in _TAILS]
_BYTE_OF = {word: number for number, word in enumerate(WORDS)}


def to_words(data: bytes) -> list[str]:
    return [WORDS[byte] for byte in data]


def from_words(words: Sequence[str]) -> bytes:
    return bytes(_BYTE_OF[word] for word in words if word in _BYTE_OF)
