"""Does what a job says while it runs, all of it together, spell the dataset?

One object for each job sees what leaves by metrics, parameters, names and lines,
and keeps two accounts for each dataset. What did not leave counts in neither.

**Rows.** For each row the cells that were said, within the last few hundred hits.
Cells of one row that lie close together are telling; far apart, chance explains
them. Each cell weighs minus log2 of the share of rows that it fits; a row is
spelled when the weights of three cells or more exceed log2 of the number of
rows, plus log2 of the ways to choose so many among the hits since the first of
them, plus a margin that grows with all that was said. Further apart, each weighs
two bits less: a row's cells are no strangers to each other, and may meet honest
values together. So one cell a line is seen, whichever channels take turns, and so
are cells spread over dozens of honest values; the more there are in between, the
more cells it takes. A name or a code that one row has, or two, is a row by itself.

**Values.** Columns can be said from top to bottom, and cells in an order that only
the receiver knows: no row is ever spelled. But then more values fit cells than
chance explains. That is a sequential test (Page's CUSUM, Biometrika 1954): a value that
fits a cell where few cells are near counts for "these are cells", a value that
fits none against it, and the sum never falls below nothing. There are two sums:
one rises where a third of the values are rare cells, the other only where nearly
all are cells, and there common ones count as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import lgamma, log, log2
from typing import Literal

from insitu.gate.channels.cells import Hit, LiveCells, Number, Said, live_cells, read_text
from insitu.gate.known.data import KnownData

_WINDOW = 256  # hits; older ones are forgotten
_MARGIN = 8.0  # bits
_NEAR = 8  # hits
_KINSHIP = 2.0  # bits
_ALARM = 20.0  # bits, plus log2 of the number of values
_SOME = 0.3  # of the values are cells, if cells are told among others
_MOST = 0.98  # of the values are cells, if nothing else is told
_COMMON = 0.85  # by chance: what is more likely says nothing
_MISSES = (log2(1 - _SOME), log2((1 - _MOST) / 0.1))
_RARE = 1 / 200  # a text cell that more rows share is a category, and a word like any other

Telling = Literal["", "rows", "values"]


class LiveEvidence:
    """What was said about a job's datasets, over all channels."""

    def __init__(self, known: Sequence[KnownData]) -> None:
        self._known = known
        self._accounts = [_Account(live_cells(one)) for one in known]
        self._has_text = any(account.cells.has_text for account in self._accounts)

    def read(self, text: str) -> Said:
        return read_text(text, phrases=self._has_text)

    def apart(self) -> LiveEvidence:
        """The same datasets with nothing said yet, for another way to read."""
        return LiveEvidence(self._known)

    def of_number(self, number: Number) -> Telling:
        """Whether `number` may be said; if nothing speaks against it, it counts as said."""
        return self._weigh([account.cells.numbers((number,)) for account in self._accounts])

    def of_text(self, text: str) -> Telling:
        """Whether `text` may be said, as above."""
        return self.of_texts([text])[0]

    def of_texts(self, texts: Sequence[str]) -> list[Telling]:
        """As `of_text` for one after the other, with their numbers looked up together."""
        return self.of_said([self.read(text) for text in texts])

    def of_said(self, said: Sequence[Said]) -> list[Telling]:
        """As `of_texts`, of texts that were read already."""
        if not self._accounts:
            return [""] * len(said)
        numbers = [number for each in said for number in each.numbers]
        looked_up = [account.cells.numbers(numbers) for account in self._accounts]
        answers: list[Telling] = []
        at = 0
        for each in said:
            end = at + len(each.numbers)
            hits = [
                [*found[at:end], *account.cells.phrases(each)]
                for account, found in zip(self._accounts, looked_up, strict=True)
            ]
            answers.append(self._weigh(hits))
            at = end
        return answers

    def _weigh(self, hits: Sequence[Sequence[Hit | None]]) -> Telling:
        telling: Telling = ""
        for account, of_account in zip(self._accounts, hits, strict=True):
            telling = telling or account.weigh(of_account)
        for account in self._accounts:
            account.settle(said=not telling)
        return telling


_Cell = tuple[int, float, int]  # of a row, one that was said: when, the bits that it tells, its column


@dataclass
class _Account:
    """Both accounts of one dataset. `weigh` tries, `settle` keeps or takes back."""

    cells: LiveCells
    _rows: dict[int, list[_Cell]] = field(default_factory=dict[int, list[_Cell]])
    _met: dict[float | str, int] = field(default_factory=dict[float | str, int])  # hit → when it was said
    _at: int = 0  # hits so far
    _values: int = 0  # values so far, hits or not
    _sums: tuple[float, float] = (0.0, 0.0)
    _tried: list[Hit] = field(default_factory=list[Hit])
    _tried_sums: tuple[float, float] = (0.0, 0.0)
    _tried_values: int = 0

    def weigh(self, hits: Sequence[Hit | None]) -> Telling:
        some, most, values = *self._sums, self._values
        some_less, most_less = _MISSES
        spelled = False
        for hit in hits:
            values += 1
            if hit is None:
                some, most = some + some_less, most + most_less
                some, most = max(0.0, some), max(0.0, most)
                continue
            if hit.what in self._met:  # said again: nothing new
                continue
            self._note(hit)
            spelled = spelled or hit.identifies
            some, most = some + _counts_for(hit, _SOME), most + _counts_for(hit, _MOST)
            spelled = self._spells_row(hit) or spelled
        self._tried_sums, self._tried_values = (some, most), values
        if spelled:
            return "rows"
        return "values" if max(some, most) > _ALARM + log2(1 + values) else ""

    def settle(self, *, said: bool) -> None:
        if said:
            self._sums, self._values = self._tried_sums, self._tried_values
            if self._at >= 2 * _WINDOW:
                self._forget()
        else:
            for hit in reversed(self._tried):
                self._take_back(hit)
        self._tried.clear()

    def _note(self, hit: Hit) -> None:
        self._at += 1
        self._met[hit.what] = self._at
        self._tried.append(hit)
        for row, column in zip(hit.rows, hit.columns, strict=True):
            self._rows.setdefault(row, []).append((self._at, hit.weight, column))

    def _take_back(self, hit: Hit) -> None:
        self._at -= 1
        del self._met[hit.what]
        for row in hit.rows:
            cells = self._rows[row]
            cells.pop()
            if not cells:
                del self._rows[row]

    def _spells_row(self, hit: Hit) -> bool:
        needed = self.cells.cells_needed
        return any(len(self._rows[row]) >= needed and self._is_spelled(self._rows[row]) for row in hit.rows)

    def _is_spelled(self, cells: list[_Cell]) -> bool:
        """From the newest cell of a row back to older ones: are they, so close together, more than chance?"""
        columns: set[int] = set()
        moments: set[int] = set()
        weight = 0.0
        allowed = log2(self.cells.rows) + _MARGIN + log2(1 + self._values)
        for at, told, column in reversed(cells):
            span = self._at - at + 1
            if span > _WINDOW:
                break
            if column in columns or at in moments:  # one value that fits two cells says one of them
                continue
            columns.add(column)
            moments.add(at)
            weight += told if span <= _NEAR else max(0.0, told - _KINSHIP)
            if len(columns) >= self.cells.cells_needed and weight >= allowed + _log2_choices(span, len(columns)):
                return True
        return False

    def _forget(self) -> None:
        """Drop what lies further back than anybody looks."""
        oldest = self._at - _WINDOW
        self._met = {what: at - oldest for what, at in self._met.items() if at > oldest}
        kept: dict[int, list[_Cell]] = {}
        for row, cells in self._rows.items():
            recent = [(at - oldest, told, column) for at, told, column in cells if at > oldest]
            if recent:
                kept[row] = recent
        self._rows, self._at = kept, self._at - oldest


def _counts_for(hit: Hit, share: float) -> float:
    """Bits that a hit tells for "a `share` of the values are cells"."""
    if isinstance(hit.what, str):
        return log2(_SOME * 64) if hit.by_chance <= _RARE else 0.0
    return max(0.0, log2(share / max(hit.by_chance, 1 / 64))) if hit.by_chance < _COMMON else 0.0


@lru_cache(maxsize=1 << 16)
def _log2_choices(among: int, chosen: int) -> float:
    return (lgamma(among + 1) - lgamma(chosen + 1) - lgamma(among - chosen + 1)) / log(2)
