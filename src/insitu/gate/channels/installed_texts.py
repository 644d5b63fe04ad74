"""The texts of a job's environment, as the gate's process reads them: which one a line says, at which place.

The agent writes them once for each environment (`channels/installed_code.py`): one a
line, sorted, so that the longest one that begins at some place of a line is found by
halving.
"""

from __future__ import annotations

import os
import re
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from math import log2
from pathlib import Path

INSTALLED_TEXTS = "installed-texts.txt"
"""Among what the intake writes: put there by the agent."""
TEXTS_VERSION = 1
"""Of what is found and how it is written down: counted up when either changes, so that nothing old is used."""
SOURCE_FOLDER = "site-packages/"

_END = re.compile(r"[A-Za-z]+|.", re.DOTALL)


class InstalledTexts:
    """What can be said, in an order that everybody knows: so one of them is told by its place in it."""

    def __init__(self, texts: Sequence[str] = ()) -> None:
        self._sorted = texts
        self.bits = log2(max(1, len(texts)))

    def longest(self, shape: str, start: int) -> int:
        """Where the longest text that stands in `shape` at `start` ends; `start` if there is none. Words are not cut."""
        texts = self._sorted
        longest, low = start, 0
        for piece in _END.finditer(shape, start):
            begun = shape[start : piece.end()]
            low = bisect_left(texts, begun, low)
            if low == len(texts) or not texts[low].startswith(begun):
                break
            if texts[low] == begun:
                longest = piece.end()
        return longest


def write_texts(texts: Iterable[str], path: Path) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}")
    partial.write_text("\n".join(sorted(texts)), encoding="utf-8", newline="\n")
    partial.replace(path)


class InstalledTextsFile:
    """The same, read when they are first needed. Not there, or not whole: none, and lines are dearer."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    @cached_property
    def found(self) -> InstalledTexts:
        if self._path is None:
            return InstalledTexts()
        try:
            text = self._path.read_text(encoding="utf-8")
        except (OSError, ValueError):
            return InstalledTexts()
        return InstalledTexts(text.split("\n") if text else ())


Installed = Callable[[], InstalledTexts]
NONE_INSTALLED: Installed = InstalledTexts
