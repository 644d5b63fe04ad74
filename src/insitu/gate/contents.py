"""What the readers found in a file: numbers, text, kinds, and what they couldn't read.

`where` is a place such as `model.skops: member 3`, with ordinals instead of
names: a name inside an archive was chosen by the job and may be data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insitu.gate.effort import Effort

Numbers = NDArray[Any]


@dataclass(frozen=True)
class FoundNumbers:
    """Values in the order and shape in which they were stored.

    `raw` marks numbers that are a guess: bytes looked at as if they were floats.
    """

    where: str
    values: Numbers
    raw: bool = False

    def describe(self) -> str:
        shape = ",".join(str(size) for size in self.values.shape)
        return f"{self.where}: {self.values.dtype.name}[{shape}]"


@dataclass(frozen=True)
class FoundText:
    where: str
    text: str


@dataclass
class Contents:
    """Filled by the readers in `read_*.py`; read by the checks."""

    effort: Effort
    numbers: list[FoundNumbers] = field(default_factory=list[FoundNumbers])
    texts: list[FoundText] = field(default_factory=list[FoundText])
    kinds: dict[str, str] = field(default_factory=dict[str, str])
    """Kind of content (`pickle`, `skops`, `zip`, …) to the first place where it was met."""
    unread: list[str] = field(default_factory=list[str])
    """Places that could not be read as what they claim to be. Never counts as clean."""

    def add_numbers(self, where: str, values: Numbers, *, raw: bool = False) -> None:
        if values.size == 0 or values.dtype.kind not in "fiubc":
            return
        self.effort.spend_values(values.size)
        if values.dtype.kind == "c":  # two columns that hide as one
            values = np.stack([np.real(values), np.imag(values)], axis=-1)
        self.numbers.append(FoundNumbers(where, values, raw))

    def add_text(self, where: str, text: str) -> None:
        if text:
            self.texts.append(FoundText(where, text))

    def add_kind(self, kind: str, where: str) -> None:
        self.kinds.setdefault(kind, where)

    def add_unread(self, where: str, reason: str) -> None:
        self.unread.append(f"{where}: {reason}")
