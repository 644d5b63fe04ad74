"""The demo's progress, on stderr: a spinner and what happens now on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import RenderableType
from rich.padding import Padding
from rich.status import Status
from rich.text import Text

from insitu.cli.output import Output, printable

_WIDTH = 76  # of a step's line, before its time


@dataclass
class Telling:
    """Tells the steps as they happen, and how long each took."""

    out: Output
    seconds: dict[str, float] = field(default_factory=dict)
    _status: Status | None = None

    @contextmanager
    def step(self, name: str, doing: str) -> Iterator[Step]:
        """One step of the story: `doing` while it runs, what it says then when it is done."""
        begun = time.monotonic()
        step = Step(self, doing)
        with self._spinner(doing):
            yield step
        self.seconds[name] = round(time.monotonic() - begun, 2)
        line = Text.assemble(("✓ ", "green"), step.done)
        line.pad_right(max(0, _WIDTH - line.cell_len))
        line.append(f"{self.seconds[name]:5.1f} s", "dim")
        self._print(line)
        for detail in step.details:
            # Where nothing is wrapped there is nothing to indent, and padding would fill the line.
            wrapped = self.out.err.is_terminal
            self._print(Padding(detail, (0, 0, 0, 2)) if wrapped else Text.assemble("  ", detail))

    def update(self, text: str) -> None:
        if self._status is not None:
            self._status.update(Text(printable(text)))

    @contextmanager
    def _spinner(self, doing: str) -> Iterator[None]:
        if self.out.quiet or not self.out.err.is_terminal:
            yield
            return
        with self.out.err.status(Text(doing)) as status:
            self._status = status
            try:
                yield
            finally:
                self._status = None

    def _print(self, line: RenderableType) -> None:
        if not self.out.quiet:
            self.out.err.print(line)


@dataclass
class Step:
    """What a step says of itself."""

    _telling: Telling
    done: str
    """The line that stays when it is over."""
    details: list[Text] = field(default_factory=list)

    def now(self, text: str) -> None:
        """What happens at this moment."""
        self._telling.update(text)

    def say(self, done: str) -> None:
        self.done = done

    def add(self, detail: str | Text) -> None:
        """A line below it."""
        self.details.append(detail if isinstance(detail, Text) else Text(printable(detail), style="dim"))
