"""What stays at the site: told by class and size of number to the hub, in full to the steward.

A class is a word of ours, and of how many there are the hub hears a power of ten
alone: a script can choose what it logs that will stay, so an exact count would be
a number of its choosing, and so would be which of many classes there are.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO


def at_least(count: int) -> int:
    """The highest power of ten that `count`, at least one, reaches."""
    return 10 ** (len(str(count)) - 1)


class Kept:
    """Counts by class, and details in a file up to a size; beyond it, counts alone."""

    def __init__(self, path: Path, *, most_bytes: int) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._room_bytes = most_bytes
        self.counts: Counter[str] = Counter()
        self.rules: Counter[str] = Counter()  # for the site alone: how often each rule kept something

    def keep(self, kind: str, *, rule: str, **details: Any) -> None:
        """Count one thing of class `kind`, and note its details for the steward."""
        self.count(kind, rule=rule)
        if self._room_bytes <= 0:
            return
        line = json.dumps({"kind": kind, "rule": rule, **details}).encode() + b"\n"
        self._room_bytes -= len(line)
        if self._room_bytes > 0:
            if self._file is None:
                self._file = self._path.open("xb")
            self._file.write(line)

    def count(self, kind: str, number: int = 1, *, rule: str = "not-declared") -> None:
        """Count, where the details are files already."""
        self.counts[kind] += number
        self.rules[f"{kind}: {rule}"] += number

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
