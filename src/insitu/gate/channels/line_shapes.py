"""A line taken apart: its shape, which repeats from line to line, and its numbers, which change.

`epoch 3: loss 0.3121 [===>  ]` has the shape of `epoch 4: loss 0.2987 [====> ]`: a
number is one mark, whatever its length, and so is a sign or a blank that is
repeated. What the marks stand for is kept apart, each with the form in which it
was printed (decimals, zeros in front), so that both together are the line again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import count
from typing import NamedTuple

NUMBER_MARK = "\x00"
RUN_MARK = "\x01"

_DIGITS = re.compile("([0-9]+)")
_NUMBER_IN_FRAME = re.compile(r"\x00(\.\x00)?")
_REPEATED = re.compile(r"  +|([^\x00 0-9])\1{3,}")
_PART = re.compile(rf"[0-9]+(?:\.[0-9]+)?|{_REPEATED.pattern}")
HIDDEN = "\u2026"

WHOLE, RUN = -1, -2


class Part(NamedTuple):
    """One number or run of a line: in units of its last digit.

    `decimals` are `WHOLE` for a whole number and `RUN` for how often a sign was repeated; `width` is that of the digits
    before the point, and `zeros` whether they begin with one that says nothing.
    """

    value: int
    decimals: int
    width: int = 0
    zeros: bool = False

    @property
    def scale(self) -> float:
        """How many units are one."""
        return 10.0 ** max(0, self.decimals)


_new_part: Callable[..., Part] = tuple.__new__  # type: ignore[reportUnknownMemberType]
"""Past its constructor, in which half of the time would go."""


class Line(NamedTuple):
    """`parts` are what the shape's marks stand for, in order; `pieces` the text, cut at its runs of digits."""

    shape: str
    parts: tuple[Part, ...]
    pieces: list[str]


def take_apart(text: str) -> Line:
    """The shape of `text` and what fills it."""
    pieces = _DIGITS.split(text)
    digits = pieces[1::2]
    shape, makeup = _makeup(NUMBER_MARK.join(pieces[::2]))
    parts: list[Part] = []
    at = 0
    width = 0  # of the number before
    for kind, length in makeup:
        if kind == "whole":
            whole = digits[at]
            at += 1
            width = len(whole)
            parts.append(_new_part(Part, (int(whole), WHOLE, width, width > 1 and whole[0] == "0")))
        elif kind == "fraction":
            whole, fraction = digits[at], digits[at + 1]
            at += 2
            width = len(whole)
            zeros = width > 1 and whole[0] == "0"
            parts.append(_new_part(Part, (int(whole + fraction), len(fraction), width, zeros)))
            width += 1 + len(fraction)
        elif kind == "before":  # blanks that fill up to a number: right-aligned columns keep the sum
            parts.append(Part(length + _width(digits, at, makeup[len(parts) + 1][0]), RUN))
        else:
            parts.append(Part(length + width if kind == "behind" else length, RUN))
    return Line(shape, tuple(parts), pieces)


def _width(digits: list[str], at: int, kind: str) -> int:
    """Characters of the number that begins with this run of digits."""
    return len(digits[at]) + (1 + len(digits[at + 1]) if kind == "fraction" else 0)


@lru_cache(maxsize=1 << 13)
def _makeup(frame: str) -> tuple[str, tuple[tuple[str, int], ...]]:
    """The shape of a frame (a text whose runs of digits are marks), and the kinds of its parts with their lengths."""
    kinds: list[tuple[int, str, int]] = []
    for found in _NUMBER_IN_FRAME.finditer(frame):
        kinds.append((found.start(), "fraction" if found[1] else "whole", 0))
    for found in _REPEATED.finditer(frame):
        kinds.append((found.start(), _kind_of_run(frame, found), len(found[0])))
    marked = _NUMBER_IN_FRAME.sub(NUMBER_MARK, _REPEATED.sub(lambda found: found[0][0] + RUN_MARK, frame))
    return marked, tuple((kind, length) for _, kind, length in sorted(kinds))


def _kind_of_run(frame: str, found: re.Match[str]) -> str:
    if found[0][0] != " ":
        return "run"
    if frame[found.end() : found.end() + 1] == NUMBER_MARK:
        return "before"
    return "behind" if found.start() and frame[found.start() - 1] == NUMBER_MARK else "run"


def hide(text: str, line: Line, hidden: set[int]) -> str:
    """`text`, which is `line`, with the parts of these places hidden: numbers as dots, of runs four signs left."""
    if RUN_MARK not in line.shape:
        return _hide_numbers(line, hidden)
    places = count()

    def shown(found: re.Match[str]) -> str:
        if next(places) not in hidden:
            return found[0]
        return HIDDEN if found[0][0].isdigit() else found[0][0] * 4

    return _PART.sub(shown, text)


def _hide_numbers(line: Line, hidden: set[int]) -> str:
    shown = line.pieces.copy()
    at = 1
    for place, part in enumerate(line.parts):
        is_fraction = part.decimals != WHOLE
        if place in hidden:
            shown[at] = HIDDEN
            if is_fraction:
                shown[at + 1] = shown[at + 2] = ""
        at += 4 if is_fraction else 2
    return "".join(shown)
