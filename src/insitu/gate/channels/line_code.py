"""What a job's lines tell, in bits, and the end of it: the ceiling.

The lines that leave are priced as an adaptive code would write them down. Lines of
a loop cost next to nothing: their shape was to be expected, and so were their
counters and the metrics that they repeat. A line that could have been another one
costs what that choice tells: one bit for `finished` or `completed`, log2 k for one
of k phrases, the digits of a number that nobody expected, the letters of a word
that nobody knew. All prices are those of a prefix code, so by Kraft's inequality
no script, whatever it hides in its lines, can tell more bits than were charged.

Of the ceiling an eighth is for choices between lines that were said before, of any
stream, a quarter for numbers, a quarter for words that neither the code nor
libraries say; other new lines may use what is left. A line that would
cost more than there is stays at the site. Numbers do not hold a line back: from
three quarters of their share on they leave where they were to be expected, and
are hidden where not, and which of the two it was is charged as a choice.

Not priced: when a line is said, which the events' whole seconds bound, and which
line is the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import ceil, log2

from insitu.gate.channels.adaptive import Counts, Sequence
from insitu.gate.channels.code_words import CodeWords
from insitu.gate.channels.installed_texts import NONE_INSTALLED, Installed
from insitu.gate.channels.line_shapes import Line, Part, hide, take_apart
from insitu.gate.channels.number_price import MetricValues, Place, Price
from insitu.gate.channels.word_price import NewLine, WordPrice

_CHOICES, _NUMBERS, _SPELLED = 1 / 8, 1 / 4, 1 / 4  # of the ceiling
_NUMBERS_LOW = 3 / 4  # of their share
_MOST_ENCODED = 60.0  # bits that may speak for an encoding; chosen by trying, no bound (docs/decisions/0013)
_STREAM = 1.0
_NOTHING_NEW = NewLine(0.0, 0.0)


class LineCode:
    """The account of one job's lines, over all of its streams; or of its parameters and names, as lines.

    Args:
        ceiling_bytes: what they may tell, in all.
        metrics: values that have left already.
        code: what the signed code says.
        names: words of the datasets' columns.
        installed: what the packages say that the job's environment has.
        hides: whether numbers may be hidden; else a text leaves as it is or not at all.
    """

    def __init__(
        self,
        ceiling_bytes: int,
        *,
        metrics: MetricValues | None = None,
        code: Callable[[], CodeWords] = CodeWords,
        names: Iterable[str] = (),
        installed: Installed = NONE_INSTALLED,
        hides: bool = True,
    ) -> None:
        self._most = 8.0 * ceiling_bytes
        self._metrics = metrics or MetricValues()
        self._words = WordPrice(code, names, installed)
        self._places: dict[str, list[Place]] = {}  # of each shape that was said
        self._streams = Counts()
        self._sequences: dict[str, Sequence] = {}
        self._new = 0.0  # bits of new lines
        self._spelled = 0.0  # of them, of words that nobody knew
        self._encoded = 0.0  # what speaks for an encoding in them
        self._numbers = 0.0
        self._choices = 0.0
        self._may_hide = hides
        self._hides = False
        self.is_wary = False
        """No line in a new shape leaves any more."""
        self.looks_encoded = False
        """Whether what stayed last did so since its words, with those before them, look like pieces of an encoding."""

    @property
    def told_bits(self) -> float:
        return self._new + self._numbers + self._choices

    @property
    def told_bytes(self) -> int:
        """What has left can have told no more."""
        return ceil(self.told_bits / 8)

    def be_wary(self) -> None:
        """From now on: only lines of a shape that has left."""
        self.is_wary = True

    def may_leave(self, stream: str, text: str) -> str | None:
        """The line as it may leave, numbers hidden where they must be; None if it stays."""
        line = take_apart(text)
        shape, parts, _ = line
        self.looks_encoded = False
        places = self._places.get(shape)
        is_new = places is None
        if self.is_wary and is_new:
            return None
        sequence = self._sequences.get(stream)
        choices = self._stream_bits(stream) - (sequence.told_bits if sequence else 0.0)
        sequence = sequence or Sequence()
        sums = sequence.with_next(shape, log2(len(self._places) + 2))
        choices += Sequence.told(sums)
        words = self._words.of_shape(shape) if is_new else _NOTHING_NEW
        encoded = self._encoded_with(words.odds)
        if words.odds is not None and encoded > _MOST_ENCODED:
            self._encoded = encoded
            self.looks_encoded = True
            return None
        places = places or [Place() for _ in parts]
        told = self._new + self._numbers + self._choices
        room = self._most - told - words.bits - choices
        prices = self._numbers_that_leave(parts, places, min(room, self._most * _NUMBERS - self._numbers))
        if None in prices and not self._may_hide:
            return None
        if self._hides:
            both = zip(places, prices, strict=True)
            choices += sum([place.shown_bits(price is not None) for place, price in both if not place.is_blind])
        numbers = sum([price.bits for price in prices if price])
        if not (
            told + words.bits + choices + numbers <= self._most
            and self._choices + choices <= self._most * _CHOICES
            and self._spelled + words.spelled <= self._most * _SPELLED
        ):
            return None
        self._new += words.bits
        self._spelled += words.spelled
        self._encoded = encoded
        self._choices += choices
        self._numbers += numbers
        sequence.comes(shape, sums)
        self._sequences[stream] = sequence
        self._streams.add(stream)
        if is_new:
            self._places[shape] = places
            self._words.say(shape)
        return self._show(text, line, places, prices)

    def _encoded_with(self, odds: float | None) -> float:
        """What speaks for an encoding with a line's words. Once it was too much it stays: no word leaves that nobody knew."""
        if odds is None or self._encoded > _MOST_ENCODED:
            return self._encoded
        return max(0.0, self._encoded + odds)

    def _stream_bits(self, stream: str) -> float:
        bits = self._streams.bits(stream)
        return self._streams.new + _STREAM if bits is None else bits

    # -- numbers -------------------------------------------------------------------------------------------------------

    def _numbers_that_leave(self, parts: tuple[Part, ...], places: list[Place], room: float) -> list[Price | None]:
        """How each number is told; None where it is hidden."""
        if not self._hides:
            prices = [place.price(part, self._metrics) for place, part in zip(places, parts, strict=True)]
            if sum([price.bits for price in prices]) <= room:
                return [*prices]
            self._hides = self._may_hide
        shown: list[Price | None] = []
        for place, part in zip(places, parts, strict=True):
            price = None if place.is_blind else place.price_if_expected(part, self._metrics)
            if price is not None and price.bits <= room:
                room -= price.bits
                shown.append(price)
            else:
                shown.append(None)
        return shown

    def _show(self, text: str, line: Line, places: list[Place], prices: list[Price | None]) -> str:
        hidden: set[int] = set()
        hides = self._hides
        for at, price in enumerate(prices):
            place = places[at]
            if hides and not place.is_blind:
                place.note_shown(price is not None)
            if price is None:
                hidden.add(at)
            else:
                place.show(line.parts[at], price)
        if self._numbers > self._most * _NUMBERS * _NUMBERS_LOW:
            self._hides = self._may_hide
        return hide(text, line, hidden) if hidden else text
