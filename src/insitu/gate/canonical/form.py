"""What every canonical writer gives back, and which names it keeps.

A writer takes the bytes of one format and gives the same meaning in one
spelling, made from an allow-list of the format's fields: writing the copy again
gives the same bytes. What it can't write is `NotReadableError`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from insitu.gate.contents import NotReadableError
from insitu.gate.encoded_text import encoded_run

_WORDS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-/ ()<>=%:]*")
_IDENTIFIER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-/]*")
_LONGEST = 80
_ENCODED_FROM = 20


class ObjectionError(NotReadableError):
    """The copy can't be made since a rule objects. The message holds none of the bytes."""

    def __init__(self, rule: str, why: str, hint: str) -> None:
        super().__init__(why)
        self.rule = rule
        self.hint = hint


@dataclass(frozen=True)
class Leaves:
    """The leaves of the trees in a model, as far as its structure tells."""

    most: int  # leaves of the tree with most of them
    smallest: int | None = None  # samples in the smallest leaf; None: the model does not say


@dataclass(frozen=True)
class Canonical:
    data: bytes
    format: str
    carries_bits: int  # at most; see `ceiling.py`
    types: frozenset[str] = frozenset()  # classes that loading would make
    leaves: Leaves | None = None
    dropped: tuple[str, ...] = ()  # classes of what was left out, in our words


def is_ordinary(word: str) -> bool:
    """Whether a key or a word inside a model may stay: short, plain, and no encoding."""
    return _is_plain(word, _WORDS)


def is_identifier(name: str) -> bool:
    """The same for what only programs read: names of tensors, inputs and outputs."""
    return _is_plain(name, _IDENTIFIER)


def _is_plain(text: str, form: re.Pattern[str]) -> bool:
    return len(text) <= _LONGEST and bool(form.fullmatch(text)) and not encoded_run(text, least=_ENCODED_FROM)
