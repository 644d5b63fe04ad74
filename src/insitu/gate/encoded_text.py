"""Recognises text that is bytes in disguise: hex, base32, base64, very long numbers, rows of escapes.

People write words, paths and short numbers; a long run that mixes upper case,
lower case and digits, or that is nothing but hex digits, is an encoding or a
digest. Neither has to leave in a log line or a name, and both can carry a row.
"""

from __future__ import annotations

import re
from itertools import pairwise

_RUN = re.compile(r"[A-Za-z0-9+_=~-]+")
_HEX = re.compile(r"(?:0x)?[0-9a-f]+|(?:0x)?[0-9A-F]+")
_BASE32 = re.compile(r"[A-Z2-7]+=*")
_DIGITS = re.compile(r"[0-9][0-9_]{18,}[0-9]")
_ESCAPES = re.compile(
    r"(?:%[0-9A-Fa-f]{2}){8,}|(?:=[0-9A-F]{2}){8,}|(?:\\x[0-9A-Fa-f]{2}){6,}|(?:\\u[0-9A-Fa-f]{4}){4,}"
    r"|(?:&#(?:x[0-9A-Fa-f]{1,6}|[0-9]{1,7});){5,}"
)
_LONG_NUMBER = 20  # digits: no measurement has so many


def encoded_run(text: str, *, least: int = 24) -> bool:
    """Whether `text` has a run of at least `least` characters that looks encoded."""
    for run in _DIGITS.finditer(text):
        fraction = run.start() and text[run.start() - 1] == "."  # a float printed in full has many digits there
        if len(run.group().replace("_", "")) >= _LONG_NUMBER and not fraction:
            return True
    if any(len(run.group()) >= least for run in _ESCAPES.finditer(text)):
        return True
    # A run as a whole, and between its dashes: `m_GE3S4OJZ…` hides behind a prefix.
    return any(
        _looks_encoded(part)
        for run in _RUN.findall(text)
        for part in {run, *re.split("[_-]", run)}
        if len(part) >= least
    )


def _looks_encoded(run: str) -> bool:
    letters = re.sub(r"[^A-Za-z0-9]", "", run)
    digits = sum(character.isdigit() for character in letters)
    if _HEX.fullmatch(letters):
        return digits >= 2
    if _BASE32.fullmatch(letters):
        return digits >= 2 or len(letters) >= 40
    upper = sum(character.isupper() for character in letters)
    lower = sum(character.islower() for character in letters)
    # Words have few digits, and their capitals stand at the start: `LogisticRegression_l2_C10` is none.
    changes = sum(_kind(a) != _kind(b) for a, b in pairwise(letters))
    return digits >= 2 and upper + lower >= 2 and changes >= len(letters) / 4


def _kind(character: str) -> int:
    return 0 if character.isdigit() else 1 if character.isupper() else 2
