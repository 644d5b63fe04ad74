"""Adaptive codes: what comes again and again costs next to nothing, what could be anything costs what it tells.

Each symbol is priced by how often it came before in the same context, with room
for one that is new there (method C of Moffat, "Implementing the PPM data
compression scheme", IEEE Transactions on Communications 38, 1990). The prices are
those of a prefix code, so whoever chose the symbols told no more than their sum.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import log2

_MOST_SYMBOLS = 512


class Counts:
    """How often each symbol came in one context."""

    __slots__ = ("_of", "_total")

    def __init__(self) -> None:
        self._of: dict[Hashable, int] = {}
        self._total = 0

    def bits(self, symbol: Hashable) -> float | None:
        """The price of a symbol that came before; None for a new one, which costs `new` and what names it."""
        of = self._of
        count = of.get(symbol)
        return None if count is None else log2((self._total + len(of)) / count)

    @property
    def new(self) -> float:
        """The price of saying that the next one is new here."""
        return log2((self._total + len(self._of)) / len(self._of)) if self._of else 0.0

    def add(self, symbol: Hashable) -> None:
        of = self._of
        count = of.get(symbol)
        if count is not None:
            of[symbol] = count + 1
        elif len(of) < _MOST_SYMBOLS:
            of[symbol] = 1
        else:  # it stays new: that is dearer, never cheaper
            return
        self._total += 1


class Sequence:
    """What comes next, told by three readers who look back differently; the best of them counts.

    One looks at the last symbol, one at the last two, one at the last and how long
    it has repeated, so that every tenth line surprises nobody. Which reader was best
    is two bits, once.
    """

    _WHICH = 2.0

    def __init__(self) -> None:
        self._contexts: dict[Hashable, Counts] = {}
        self._counts: tuple[Counts | None, Counts | None, Counts | None]
        self._last: Hashable = None
        self._before: Hashable = None
        self._repeated = 0
        self._now = self._contexts_now()
        self._counts = (None, None, None)  # of these contexts
        self.bits = (0.0, 0.0, 0.0)
        self.told_bits = self.told(self.bits)

    def with_next(self, symbol: Hashable, named: float) -> tuple[float, float, float]:
        """The three sums if `symbol` comes next; `named` is the price of telling it among all there are."""
        told, counts, price = self.bits, self._counts, self._price
        return (
            told[0] + price(counts[0], symbol, named),
            told[1] + price(counts[1], symbol, named),
            told[2] + price(counts[2], symbol, named),
        )

    @classmethod
    def told(cls, bits: tuple[float, float, float]) -> float:
        return min(bits) + cls._WHICH

    def comes(self, symbol: Hashable, bits: tuple[float, float, float]) -> None:
        self.bits, self.told_bits = bits, self.told(bits)
        for context, counts in zip(self._now, self._counts, strict=True):
            known = counts
            if known is None:
                if len(self._contexts) >= _MOST_CONTEXTS:
                    continue
                known = self._contexts[context] = Counts()
            known.add(symbol)
        if self._repeated >= _LONGEST_REPEAT and symbol == self._last and None not in self._counts:
            return  # it goes on in the same contexts
        self._repeated = self._repeated + 1 if symbol == self._last else 0
        self._last, self._before = symbol, self._last
        one, two, three = self._now = self._contexts_now()
        find = self._contexts.get
        self._counts = find(one), find(two), find(three)

    def _contexts_now(self) -> tuple[Hashable, Hashable, Hashable]:
        return (1, self._last), (2, self._last, self._before), (3, self._last, min(self._repeated, _LONGEST_REPEAT))

    @staticmethod
    def _price(counts: Counts | None, symbol: Hashable, named: float) -> float:
        if counts is None:
            return named
        price = counts.bits(symbol)
        return counts.new + named if price is None else price


_MOST_CONTEXTS = 20_000
_LONGEST_REPEAT = 256
