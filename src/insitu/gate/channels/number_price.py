"""What the numbers of a line tell: nothing if they were to be expected, else how far off they are.

A number that is the same as in the line of this shape before, that counts on by
the same stride, or that is a metric's value which has left already costs the
choice between these, which soon is nothing. Any other costs the bits of its
difference from the one before, so digits of a loss that falls slowly are cheap,
and chosen ones cost what they carry.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import log2
from typing import Literal, NamedTuple

from insitu.gate.channels.adaptive import Counts
from insitu.gate.channels.line_shapes import RUN, WHOLE, Part

Which = tuple[str, int, float]
"""A value of a metric: its name, which of its values, and what it is multiplied by."""
How = Literal["same", "on", "told"] | Which

_SAME: Literal["same"] = "same"
_ON: Literal["on"] = "on"
_TOLD: Literal["told"] = "told"
_HOWS = 3.0  # bits: the three above, or a metric; whether printed as the one before
_FORM = 4.0  # how it is printed
_SIZES = log2(64)
_SIGN = 1.0
_UNIT = 1.0001  # of the last digit, and what floats are off
_TIE = 0.4999  # of a unit: a value that could be rounded either way tells a bit more
_MOST_SWITCHES = 3
_FRESH = 3  # values that a place may tell before it has to be one that is expected
_REMEMBERED = 4  # values of each metric: lines come a little later than metrics
_MOST_METRICS = 24  # the latest ones
_SCALES = (1.0, 100.0)  # a share is printed as percents, too


class MetricValues:
    """The values of metrics that have left, as lines repeat them: the last ones, the smallest, the largest."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[deque[float], list[float]]] = {}

    def leaves(self, name: str, value: float) -> None:
        known = self._of.pop(name, None)
        if known is None:
            known = deque[float](maxlen=_REMEMBERED), [value, value]
            if len(self._of) >= _MOST_METRICS:
                del self._of[next(iter(self._of))]
        self._of[name] = known
        last, ends = known
        value = abs(value)  # a sign is part of the line's shape
        last.appendleft(value)
        ends[0], ends[1] = min(ends[0], value), max(ends[1], value)

    def named_bits(self) -> float:
        """The price of saying which value of which metric."""
        return log2(max(1, len(self._of)) * (_REMEMBERED + 2) * len(_SCALES))

    def off(self, which: Which, number: float, scale: float) -> float:
        """How many units the number is off this value."""
        known = self._of.get(which[0])
        if known is None:
            return 1.0
        values = (*known[1], *known[0])
        return abs(values[which[1]] * which[2] * scale - number) if which[1] < len(values) else 1.0

    def find(self, number: float, scale: float) -> Which | None:
        for name, (last, ends) in self._of.items():
            for at, value in enumerate((*ends, *last)):
                for times in _SCALES:
                    if abs(value * times * scale - number) <= _UNIT / 2:
                        return name, at, times
        return None


class Price(NamedTuple):
    """How a number is told, the bits of that, and how far it is off the one before."""

    symbol: tuple[How, int, int]  # with decimals, and to how many digits zeros fill it up
    bits: float
    off: int


_new_price: Callable[..., Price] = tuple.__new__  # type: ignore[reportUnknownMemberType]


class Place:
    """One place for a number in lines of one shape."""

    __slots__ = (
        "_decimals",
        "_last",
        "_padded",
        "_shown",
        "_sizes",
        "_stride",
        "_switches",
        "_symbols",
        "_told",
        "_usual",
        "_was_shown",
        "is_blind",
    )

    def __init__(self) -> None:
        self._last: int | None = None
        self._decimals = WHOLE  # of the last one
        self._padded = 0  # to so many digits by zeros
        self._stride: int | None = None
        self._usual: How = _SAME
        self._symbols = Counts()
        self._sizes = Counts()
        self._told = 0
        self._shown = Counts()
        self._was_shown = True
        self._switches = 0
        self.is_blind = False
        """Whether numbers came and went so often that all are hidden now: what nobody expected would be told by that."""

    def price(self, part: Part, metrics: MetricValues) -> Price:
        """How the number is told, and what that costs."""
        last = self._last if part.decimals == self._decimals else self._in_units_of(part)
        return self._price(part, last, self._how(part, last, metrics), metrics)

    def price_if_expected(self, part: Part, metrics: MetricValues) -> Price | None:
        """The same, but None for a number that was not to be expected where such have been told often enough."""
        last = self._last if part.decimals == self._decimals else self._in_units_of(part)
        how = self._how(part, last, metrics)
        if how == _TOLD and self._told >= _FRESH:
            return None
        return self._price(part, last, how, metrics)

    def _price(self, part: Part, last: int | None, how: How, metrics: MetricValues) -> Price:
        value, decimals, width, zeros = part
        padded = width if zeros else self._padded if self._padded <= width else 0
        symbol = (how, decimals, padded)
        bits = self._symbols.bits(symbol)
        if bits is None:
            is_new_form = decimals != self._decimals or padded != self._padded
            bits = self._symbols.new + _HOWS + (_FORM if is_new_form else 0.0)
            bits += metrics.named_bits() if isinstance(how, tuple) else 0.0
        off = 0
        if how == _TOLD:
            off = abs(value - (last or 0))
            bits += self._of_size(off.bit_length())
        elif isinstance(how, tuple) and metrics.off(how, value, part.scale) > _TIE:
            bits += 1.0
        return _new_price(Price, (symbol, bits, off))  # past its constructor, in which half of the time would go

    def shown_bits(self, shown: bool) -> float:
        """The price of telling by a number's absence that it was not expected."""
        if self.is_blind:
            return 0.0
        bits = self._shown.bits(shown)
        return self._shown.new + 1.0 if bits is None else bits

    def show(self, part: Part, price: Price) -> None:
        how, decimals, self._padded = price.symbol
        self._symbols.add(price.symbol)
        if how == _TOLD:
            self._told += 1
            self._sizes.add(price.off.bit_length())
        else:
            self._usual = how
        last = self._last if decimals == self._decimals else self._in_units_of(part)
        self._stride = None if last is None else part.value - last
        self._last, self._decimals = part.value, decimals

    def note_shown(self, shown: bool) -> None:
        self._shown.add(shown)
        self._switches += shown != self._was_shown
        self._was_shown = shown
        self.is_blind = self._switches > _MOST_SWITCHES

    def _how(self, part: Part, last: int | None, metrics: MetricValues) -> How:
        """How this number was to be expected; the way that held last comes first."""
        value, usual = part.value, self._usual
        is_on = last is not None and self._stride is not None and value == last + self._stride
        if usual == _ON and is_on:
            return _ON
        if isinstance(usual, tuple) and metrics.off(usual, value, part.scale) <= _UNIT / 2:
            return usual
        if value == last:
            return _SAME
        if is_on:
            return _ON
        return (metrics.find(value, part.scale) if part.decimals != RUN else None) or _TOLD

    def _of_size(self, size: int) -> float:
        bits = self._sizes.bits(size)
        named = self._sizes.new + _SIZES if bits is None else bits
        return named + max(0, size - 1) + (_SIGN if self._last is not None else 0.0)

    def _in_units_of(self, part: Part) -> int | None:
        finer = max(0, part.decimals) - max(0, self._decimals)
        if self._last is None or finer == 0:
            return self._last
        return self._last * 10**finer if finer > 0 else self._last // 10**-finer
