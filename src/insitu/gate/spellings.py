"""Words as they would be written to be overlooked: a cell of the data in two fields, letter by letter, behind a prefix.

A vocabulary of such words is compared with the data like one of plain words. Each
spelling alone may be met by chance, so only many of them are a finding.

| spelling | read as |
|---|---|
| two or three words side by side: key and value, items of a list, fields | put together, also with a blank or a dash |
| `["P", "4", "7"]` | put together |
| `w_lovelace`, `town=Leeds` | each part |
| letters moved by thirteen | moved again |
| backwards, spaced or otherwise decoded | as the readers give it (`readers/text.py`) |
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable

from insitu.gate.contents import FoundText

_MOST_WORDS = 20_000
_LEAST = 6  # characters: shorter ones are met by chance
_LONGEST = 60
_WORD = re.compile(r"[\w.@+-]{1,60}")
_LETTERS = re.compile(r"""(?:"[^"\\]",? ?){4,60}""")
_BETWEEN = re.compile(r"[_.:=/@+-]+")
_JOINTS = ("", "-", " ")


def words_in_disguise(texts: Iterable[FoundText]) -> frozenset[str]:
    """What the words of these texts may be other spellings of; no more than so many."""
    found: set[str] = set()
    for one in texts:
        words = _WORD.findall(one.text)[:_MOST_WORDS]
        if one.guessed:
            found.update(words)
        for run in _LETTERS.finditer(one.text):
            found.add("".join(re.findall(r"\"([^\"\\])\"", run.group())))
        for size in (2, 3):
            for at in range(len(words) - size + 1):
                found.update(joint.join(words[at : at + size]) for joint in _JOINTS)
        for word in words:
            found.add(codecs.encode(word, "rot13"))
            found.update(_BETWEEN.split(word))
            found.add(word.partition("_")[2])
        if len(found) > 10 * _MOST_WORDS:
            break
    return frozenset(word for word in found if _LEAST <= len(word) <= _LONGEST and _has_letter(word))


def _has_letter(word: str) -> bool:
    return any(character.isalpha() for character in word)
