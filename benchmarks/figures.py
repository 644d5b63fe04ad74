"""What a bench returns: a figure, what it is compared with, and the goal, met or missed.

Absolute times say more about a machine and its neighbours than about us. So each
figure has a reference that does the least that could be done, or what people use
today, measured in turns with ours in the same run. Kept are all samples; shown
are medians and their ratio.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Goal:
    """What the ratio of ours to the reference shall be."""

    at_most: float | None = None
    at_least: float | None = None

    def is_met(self, ratio: float) -> bool:
        if self.at_most is not None:
            return ratio <= self.at_most
        return self.at_least is not None and ratio >= self.at_least

    def __str__(self) -> str:
        return f"≤ {self.at_most:g} ×" if self.at_most is not None else f"≥ {self.at_least:g} ×"


@dataclass(frozen=True)
class Row:
    """One figure. Without a reference it is only printed; without a goal it is only compared."""

    figure: str
    unit: str
    samples: tuple[float, ...]
    against: str = ""
    reference_samples: tuple[float, ...] = ()
    goal: Goal | None = None
    failed: str = ""
    """Why it could not be measured. A goal of such a row is not met."""

    @property
    def ours(self) -> float:
        return statistics.median(self.samples) if self.samples else math.nan

    @property
    def reference(self) -> float | None:
        return statistics.median(self.reference_samples) if self.reference_samples else None

    @property
    def ratio(self) -> float | None:
        reference = self.reference
        return self.ours / reference if reference and not self.failed else None

    @property
    def met(self) -> bool | None:
        """None: it has no goal."""
        if self.goal is None:
            return None
        return self.ratio is not None and self.goal.is_met(self.ratio)

    def as_dict(self) -> dict[str, Any]:
        fields = asdict(self) | {"goal": str(self.goal) if self.goal else "", "met": self.met, "ratio": self.ratio}
        return fields | {"ours": None if math.isnan(self.ours) else self.ours, "reference": self.reference}


def in_turns(
    rounds: int, ours: Callable[[], float], reference: Callable[[], float], *, warm_up: bool = True
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """A B A B …, after one of each that does not count (unless all is warm): what slows the machine down slows both down."""
    if warm_up:
        ours()
        reference()
    pairs = [(ours(), reference()) for _ in range(rounds)]
    return tuple(a for a, _ in pairs), tuple(b for _, b in pairs)


def all_in_turns(rounds: int, *each: Callable[[], float]) -> list[tuple[float, ...]]:
    """A B C, B A C …: as `in_turns` has it for two, in another order each round, since a turn may feel the one before it."""
    for one in each:
        one()
    taken: list[list[float]] = [[] for _ in each]
    orders = random.Random(0)
    for _ in range(rounds):
        for at in orders.sample(range(len(each)), len(each)):
            taken[at].append(each[at]())
    return [tuple(samples) for samples in taken]


def seconds(what: Callable[[], object]) -> float:
    begun = time.perf_counter()
    what()
    return time.perf_counter() - begun


def milliseconds(samples: Sequence[float]) -> tuple[float, ...]:
    return tuple(1000 * sample for sample in samples)


def percentile(samples: Sequence[float], share: float) -> float:
    """The nearest-rank one: a value that was measured."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
