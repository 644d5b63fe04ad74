"""How much work one judgement may cause, and the error of having reached it.

A file that a job wrote may be a bomb: small on disk, endless when read. Every
reader and every scan draws on one `Effort`; when it is used up, what was not
read counts as *not checked*, and what was not checked is held.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

_MB = 1_000_000


class OutOfEffortError(Exception):
    """A bound was reached. The message names the bound and never what was read."""


@dataclass(frozen=True)
class Limits:
    """Bounds of one judgement."""

    time_s: float = 60.0
    expansion_bytes: int = 512_000_000  # decoded bytes, over all files and all levels of nesting
    members: int = 10_000  # files, archive members and arrays
    depth: int = 8  # archives in archives
    guesses: int = 12  # what was decoded, or found between the parts of a format, in what was found so
    values: int = 64_000_000  # numbers taken for comparison
    ratio: int = 1100  # what one stream may grow by, once it is large: deflate itself ends at 1032
    ratio_from_bytes: int = 64_000_000
    search_bytes: int = 256_000_000  # bits of numbers and unknown bytes that are searched for hidden streams


@dataclass
class Effort:
    """What is left of `Limits`. Mutable on purpose: it is spent."""

    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], float] = time.monotonic
    _started: float = field(init=False)
    _bytes: int = field(init=False, default=0)
    _members: int = field(init=False, default=0)
    _values: int = field(init=False, default=0)
    _searched: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._started = self.clock()

    @property
    def left_s(self) -> float:
        return self.limits.time_s - (self.clock() - self._started)

    @property
    def left_bytes(self) -> int:
        return self.limits.expansion_bytes - self._bytes

    def check_time(self) -> None:
        if self.left_s <= 0:
            raise OutOfEffortError(f"reading and scanning took more than {self.limits.time_s:g} s")

    def check_depth(self, depth: int, guesses: int = 0) -> None:
        if depth > self.limits.depth:
            raise OutOfEffortError(f"nested more than {self.limits.depth} deep")
        if guesses > self.limits.guesses:
            raise OutOfEffortError(f"encoded more than {self.limits.guesses} times over")

    def check_ratio(self, packed: int, unpacked: int) -> None:
        if unpacked > max(self.limits.ratio_from_bytes, packed * self.limits.ratio):
            raise OutOfEffortError(f"grows more than {self.limits.ratio}-fold when unpacked")

    def spend_bytes(self, count: int) -> None:
        self._bytes += count
        if self._bytes > self.limits.expansion_bytes:
            raise OutOfEffortError(f"expansion over {self.limits.expansion_bytes / _MB:g} MB")
        self.check_time()

    def spend_member(self) -> None:
        self._members += 1
        if self._members > self.limits.members:
            raise OutOfEffortError(f"holds more than {self.limits.members} members")
        self.check_time()

    def spend_values(self, count: int) -> None:
        self._values += count
        if self._values > self.limits.values:
            raise OutOfEffortError(f"holds more than {self.limits.values} numbers")
        self.check_time()

    def may_search(self, count: int) -> bool:
        """Whether `count` more bytes may be searched for what hides in them; if so, they are spent.

        Not an error: such a search is never complete, and what was left out of it is said in
        `Contents.passed_over`.
        """
        if self._searched + count > self.limits.search_bytes:
            return False
        self._searched += count
        self.check_time()
        return True
