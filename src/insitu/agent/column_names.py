"""Columns' names, which leave the site by default: unless they look like paths, or like values.

A file without a header has a row of data where names should stand. So where several
names look like values, none of them is taken for a name. What is not told as it is
gets a number instead, and a steward who has looked at it may give it a name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST_NAME = 100  # characters

_PATH = re.compile(r"^[/~.\\]|^[A-Za-z]:[\\/]|\\|://|^\S*/\S*/")
_VALUE = re.compile(
    r"""[-+]?[\d.,\s]*\d[\d.,\s]*([eE][-+]?\d+)?%?      # a number
      | \d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T\s].*)?       # a date
      | \S+@\S+\.\S+                                    # an address
      | (?=.*\d)[0-9a-fA-F-]{16,}                       # an identifier
    """,
    re.VERBOSE,
)
_LONG_NUMBER = re.compile(r"\d{6,}")
_HEADLESS = 3  # of so many names one looks like a value: then the header is missing


@dataclass(frozen=True)
class Withheld:
    """A name that stays at the site, and why."""

    name: str
    told: str
    why: str


def told_names(names: Sequence[str]) -> tuple[list[str], list[Withheld]]:
    """Each column's name beyond the site, and which are not what they are here."""
    reasons = [objection_to(name) for name in names]
    values = sum(reason == _LIKE_VALUE for reason in reasons)
    if values >= 2 and values * _HEADLESS >= len(names):
        reasons = [reason or "other names look like values: is there a header?" for reason in reasons]
    taken = set(names)
    told: list[str] = []
    withheld: list[Withheld] = []
    for number, (name, why) in enumerate(zip(names, reasons, strict=True), 1):
        instead = _free(f"column-{number}", taken) if why else name
        told.append(instead)
        if why:
            withheld.append(Withheld(name, instead, why))
    return told, withheld


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "-"
    taken.add(name)
    return name


_LIKE_VALUE = "it looks like a value"


def objection_to(name: str) -> str:
    """Why a name is not told as it is; empty where nothing speaks against it."""
    if len(name) > LONGEST_NAME or not name.isprintable():
        return "it is long, or not printable"
    if _PATH.search(name):
        return "it looks like a path"
    if _VALUE.fullmatch(name) or _LONG_NUMBER.search(name):
        return _LIKE_VALUE
    return ""
