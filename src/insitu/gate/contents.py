"""What the readers found in a file: numbers, text, kinds, and what they couldn't read.

`where` is a place such as `model.skops: member 3`, with ordinals instead of
names: a name inside an archive was chosen by the job and may be data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insitu.gate.effort import Effort

Numbers = NDArray[Any]
Data = bytes | memoryview

_LINES = 1000  # of one text made from records


class NotReadableError(Exception):
    """The bytes are not what they claim to be. The message holds none of them."""


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
    """`guessed` marks text that is a guess: decoded, read backwards, or a run of letters in unknown bytes.

    It is compared with the data like any other, and says nothing about how the job writes its text.
    """

    where: str
    text: str
    guessed: bool = False


@dataclass
class Contents:
    """Filled by the readers in `read_*.py`; read by the checks."""

    effort: Effort
    watch: Callable[[str, Data], object] = lambda _, __: None
    """Told of each layer of bytes, packed or unpacked, before it is read."""
    numbers: list[FoundNumbers] = field(default_factory=list[FoundNumbers])
    texts: list[FoundText] = field(default_factory=list[FoundText])
    kinds: dict[str, str] = field(default_factory=dict[str, str])
    """Kind of content (`pickle`, `skops`, `zip`, …) to the first place where it was met."""
    unread: list[str] = field(default_factory=list[str])
    """Places that could not be read as what they claim to be. Never counts as clean."""
    passed_over: list[str] = field(default_factory=list[str])
    """Places that were read, and not searched for hidden streams, since the search is bounded."""

    def add_numbers(self, where: str, values: Numbers, *, raw: bool = False) -> None:
        if values.size == 0 or values.dtype.kind not in "fiubc":
            return
        self.effort.spend_values(values.size)
        if values.dtype.kind == "c":  # two columns that hide as one
            values = np.stack([np.real(values), np.imag(values)], axis=-1)
        self.numbers.append(FoundNumbers(where, values, raw))

    def add_text(self, where: str, text: str, *, guessed: bool = False) -> None:
        if text:
            self.texts.append(FoundText(where, text, guessed))

    def add_records(self, where: str, columns: Sequence[Iterable[Any]]) -> None:
        """Columns of equal length as text, a line for each record: cells of one row then stand together."""
        lines = ("\t".join(str(cell) for cell in record) for record in zip(*columns, strict=False))
        while block := list(islice(lines, _LINES)):
            self.effort.spend_values(len(block) * len(columns))
            self.add_text(where, "\n".join(block), guessed=True)

    def add_kind(self, kind: str, where: str) -> None:
        self.kinds.setdefault(kind, where)

    def add_unread(self, where: str, reason: str) -> None:
        self.unread.append(f"{where}: {reason}")

    def add_passed_over(self, where: str, reason: str) -> None:
        self.passed_over.append(f"{where}: {reason}")


@dataclass(frozen=True)
class Place:
    """Where a reader stands: what it fills, how deep it is, and how it hands on what it found inside.

    Readers do not know each other: each hands the parts of its format on as bytes, and what those are is asked anew.
    """

    where: str
    contents: Contents
    depth: int
    read_any: Callable[[Data, Place], None]
    noise: bool = False  # it did not tell itself: what it may be is not followed any further than what tells itself
    chance: bool = False  # it stands in bits that are noise by nature: magics of four bytes are met there now and then
    guesses: int = 0  # how often on the way here something was taken for what it does not say that it is

    @property
    def guessed(self) -> bool:
        return self.guesses > 0

    @property
    def effort(self) -> Effort:
        return self.contents.effort

    def at(self, part: str) -> Place:
        return replace(self, where=f"{self.where}: {part}")

    def read(self, data: Data, part: str, *, guessed: bool = False, noise: bool = False) -> None:
        """Read `data`, one level deeper."""
        if len(data):
            guessed = guessed or noise
            inner = replace(
                self.at(part),
                depth=self.depth + (not guessed),
                guesses=self.guesses + guessed,
                noise=self.noise or noise,
            )
            self.read_any(data, inner)

    def add_numbers(self, values: Numbers, part: str = "") -> None:
        self.contents.add_numbers(self.at(part).where if part else self.where, values)

    def add_text(self, text: str, part: str = "") -> None:
        self.contents.add_text(self.at(part).where if part else self.where, text, guessed=self.guessed)

    def add_kind(self, kind: str) -> None:
        self.contents.add_kind(kind, self.where)

    def add_unread(self, reason: str) -> None:
        """It can't be read as what it claims to be. Where chance alone may claim it, that is said and no finding."""
        (self.contents.add_passed_over if self.chance else self.contents.add_unread)(self.where, reason)


class Coverage:
    """Which bytes of a file its format accounts for. The rest is read as well: nothing may hide between parts."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._parts: list[tuple[int, int]] = []

    def add(self, start: int, end: int) -> None:
        self._parts.append((start, end))

    def holes(self) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        at = 0
        for start, end in sorted(self._parts):
            if start > at:
                found.append((at, min(start, self._size)))
            at = max(at, end)
        if at < self._size:
            found.append((at, self._size))
        return found

    def read_holes(self, data: Data, place: Place) -> None:
        """Read what no part covers, unless it is nothing but zeros: padding."""
        view = memoryview(data)
        for number, (start, end) in enumerate(self.holes(), start=1):
            hole = view[start:end]
            if np.frombuffer(hole, dtype=np.uint8).any():
                place.effort.spend_member()
                place.read(hole, f"gap {number}", guessed=True)
