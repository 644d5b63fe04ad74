"""What commands print: for people on a terminal, and the same as JSON for programs.

Results go to stdout, everything else (progress, notes, hints) to stderr. Colours and
spinners appear on a terminal only; `NO_COLOR` and `TERM=dumb` are honoured by Rich.
The shape of the JSON is an interface; tables are not.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

Cell = str | Text
Columns = Mapping[str, Callable[[Any], Cell]]

_UNBROKEN = 10_000  # columns

_STYLES: Mapping[str, tuple[str, str]] = {
    # word → (symbol, style); colour never stands alone
    "succeeded": ("✓", "green"),
    "healthy": ("✓", "green"),
    "ready": ("✓", "green"),
    "released": ("✓", "green"),
    "online": ("✓", "green"),
    "ok": ("✓", "green"),
    "held": ("‖", "yellow"),
    "kept": ("·", "dim"),
    "resident": ("·", "cyan"),
    "under review": ("‖", "yellow"),
    "announcing": ("●", "cyan"),
    "changes requested": ("✗", "yellow"),
    "queued": ("○", "dim"),
    "assigned": ("○", "cyan"),
    "preparing": ("●", "cyan"),
    "running": ("●", "cyan"),
    "judging": ("●", "cyan"),
    "releasing": ("●", "cyan"),
    "building": ("●", "cyan"),
    "pending": ("○", "cyan"),
    "fetching": ("●", "cyan"),
    "starting": ("●", "cyan"),
    "stopping": ("●", "dim"),
    "gone": ("·", "dim"),
    "cancelled": ("–", "dim"),
    "away": ("!", "yellow"),
    "never joined": ("○", "dim"),
    "unhealthy": ("!", "yellow"),
    "failed": ("✗", "red"),
    "refused": ("✗", "red"),
    "rejected": ("✗", "red"),
    "warning": ("!", "yellow"),
    "in force": ("✓", "green"),
    "unsigned": ("○", "yellow"),
    "used up": ("–", "dim"),
    "expired": ("–", "dim"),
    "revoked": ("✗", "red"),
    "looser": ("!", "yellow"),
    "stricter": ("✓", "green"),
    "neutral": ("·", "dim"),
}


@dataclass
class Output:
    """How the command that runs now was asked to speak."""

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    no_color: bool = False

    @cached_property
    def out(self) -> Console:
        # Lines are never broken for a file or a pipe: whatever reads them counts on that.
        width = None if sys.stdout.isatty() else _UNBROKEN
        return Console(no_color=self.no_color or None, highlight=False, soft_wrap=False, width=width, emoji=False)

    @cached_property
    def err(self) -> Console:
        width = None if sys.stderr.isatty() else _UNBROKEN
        return Console(stderr=True, no_color=self.no_color or None, highlight=False, width=width, emoji=False)

    # -- results -------------------------------------------------------------------------------------------------------

    def json(self, value: Any) -> None:
        sys.stdout.write(json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def json_line(self, value: Any) -> None:
        """One item of an endless answer (JSON Lines)."""
        sys.stdout.write(json.dumps(plain(value), ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def show(self, value: Any, *human: RenderableType, name: str = "") -> None:
        """One thing: `value` for programs, `human` for people, `name` alone with -q."""
        if self.as_json:
            self.json(value)
        elif self.quiet and name:
            self.out.print(Text(name))
        else:
            for part in human:
                self._print(part)

    def table(self, items: Sequence[Any], columns: Columns, *, key: Callable[[Any], str], empty: str) -> None:
        """A list. `key` is what -q prints of each item; `empty` says what to do when there is none."""
        if self.as_json:
            self.json(list(items))
        elif self.quiet:
            for item in items:
                self.out.print(Text(key(item)))
        elif not items:
            self.note(empty)
        else:
            self._print(table(items, columns))

    def _print(self, part: RenderableType) -> None:
        if self.out.is_terminal:
            self.out.print(part)
            return
        # A table pads its cells; in a file or a pipe that is only in the way.
        with self.out.capture() as printed:
            self.out.print(part)
        sys.stdout.write("".join(f"{line.rstrip()}\n" for line in printed.get().splitlines()))
        sys.stdout.flush()

    # -- beside the result ---------------------------------------------------------------------------------------------

    def note(self, text: RenderableType) -> None:
        """Something for people that is no result."""
        if not (self.as_json or self.quiet):
            self.err.print(text)

    @contextmanager
    def progress(self, text: str) -> Iterator[Callable[[str], None]]:
        """A spinner while something takes its time; the function it gives changes its text."""
        if self.as_json or self.quiet or not self.err.is_terminal:
            yield lambda _: None
            return
        with self.err.status(Text(text)) as status:
            yield lambda line: status.update(Text(line))


_current: ContextVar[Output | None] = ContextVar("output", default=None)


def current() -> Output:
    """The output of the command that runs now."""
    return _current.get() or Output()


def use(output: Output) -> None:
    _current.set(output)


# -- pieces ------------------------------------------------------------------------------------------------------------


def table(items: Iterable[Any], columns: Columns) -> Table:
    made = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    for name in columns:
        made.add_column(name, overflow="fold")
    for item in items:
        made.add_row(*(_cell(column(item)) for column in columns.values()))
    return made


def fields(values: Mapping[str, Cell | None]) -> Table:
    """Names and values, one a line; what is empty is left out."""
    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in values.items():
        if value is not None and str(value):
            made.add_row(name, _cell(value))
    return made


def _cell(value: Cell) -> Text:
    # Text, not markup: what a job wrote must not be able to colour a steward's terminal.
    return value if isinstance(value, Text) else Text(printable(value))


def printable(text: str) -> str:
    """`text` without control characters, which could move a terminal's cursor or worse."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text.expandtabs())


def state(word: str) -> Text:
    """A state as symbol, word and colour."""
    symbol, style = _STYLES.get(word, ("·", ""))
    return Text(f"{symbol} {word}", style=style)


def heading(text: str) -> Text:
    return Text(text, style="bold")


def hint(text: str) -> Text:
    return Text.assemble(("hint: ", "cyan"), printable(text))


def command(text: str) -> Text:
    """A command to go on with."""
    return Text(f"  {text}", style="cyan")


def when(at: datetime | str | None) -> str:
    """A time for people: how long ago, coarsely."""
    if not at:
        return ""
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    passed_s = (datetime.now(UTC) - moment).total_seconds()
    if passed_s < 0:
        return f"in {_span(-passed_s)}"
    return "just now" if passed_s < 5 else f"{_span(passed_s)} ago"


def _span(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def short(digest: str) -> str:
    """The part of a digest that is enough to tell it from others at a glance."""
    kind, mark, rest = digest.partition(":")
    return f"{kind}:{rest[:12]}" if mark else digest[:19]


def number(value: float) -> str:
    return f"{value:.6g}"


def plain(value: Any) -> Any:
    """`value` as JSON has it: models dumped, times in RFC 3339, sets and tuples as lists."""
    if hasattr(value, "model_dump_json"):
        # By way of text: infinities and NaN become what the model says they become.
        return json.loads(value.model_dump_json())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    return str(value)
