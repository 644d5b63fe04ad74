"""`insitu demo`: options, signals, and what is left in the end: nothing, unless it is to be kept."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.text import Text

from insitu.cli.commands import single
from insitu.cli.demo import report
from insitu.cli.demo.places import make_places, remove
from insitu.cli.demo.processes import Processes
from insitu.cli.demo.stage import Stage
from insitu.cli.demo.story import Story
from insitu.cli.demo.table import load_wdbc
from insitu.cli.demo.telling import Telling
from insitu.cli.output import Output, command, current
from insitu.cli.session import user_folders

_TERMINATED = 143  # 128 and SIGTERM, as shells have it


class Datastore(StrEnum):
    """Where the demo's private data lies."""

    FOLDER = "folder"
    AZURITE = "azurite"


class Stopped(BaseException):
    """SIGTERM or SIGHUP: end in order, like Ctrl-C."""


def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the folder: hub, site, ledger, logs.")] = False,
    sandbox: Annotated[
        str, typer.Option("--sandbox", help="podman, docker or bubblewrap; by default an engine if there is one.")
    ] = "",
    datastore: Annotated[
        Datastore, typer.Option("--datastore", help="Where the private data lies: a folder, or Azurite (from npm).")
    ] = Datastore.FOLDER,
    folder: Annotated[
        Path | None, typer.Option("--dir", help="Where to play it; by default a temporary folder.", show_default=False)
    ] = None,
) -> None:
    """Play the whole story on this machine: from a private table to a scored prediction, and clean up."""
    out = current()
    begun = time.monotonic()
    table = load_wdbc()
    places = make_places(folder, user_folders().cache)
    try:
        with _orderly():
            stage = Stage(places, Processes(places.logs), sandbox or None, datastore.value)
            telling = Telling(out)
            story = Story(stage, table, telling)
            with _cleared(stage, telling, out):
                story.play()
    except Stopped:
        raise typer.Exit(_TERMINATED) from None
    finally:
        if not keep:
            remove(places)
    telling.seconds["total"] = round(time.monotonic() - begun, 2)
    document = report.as_document(story.facts, stage, telling.seconds)
    out.show(document, *report.describe(story.facts, document))
    if keep:
        _say_kept(stage, out)


@contextmanager
def _orderly() -> Iterator[None]:
    """Being told to stop is an exception here, so that everything is cleared away."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _cleared(stage: Stage, telling: Telling, out: Output) -> Iterator[None]:
    """Whatever happens, nothing is left running. Impatience does not stop that."""
    try:
        yield
    finally:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
        begun = time.monotonic()
        try:
            with ExitStack() as shown:
                # The terminal may be gone: that must not keep anything from being ended.
                with suppress(OSError):
                    shown.enter_context(out.progress("ending everything that was started"))
                stage.clear()
        finally:
            telling.seconds["clear"] = round(time.monotonic() - begun, 2)
            for number, handler in before.items():
                signal.signal(number, handler)


def _say_kept(stage: Stage, out: Output) -> None:
    places = stage.places
    out.note(Text(f"\nKept in {places.root}. Its processes are ended; to go on with it:", style="bold"))
    port = stage.hub_url.rpartition(":")[2]
    out.note(command(f"insitu hub start --data {places.hub} --port {port} --base-layout {places.base_layout} &"))
    out.note(command(f"insitu agent start --dir {places.site} &"))
    for person in sorted(places.people.iterdir()):
        out.note(command(f"INSITU_CONFIG={person} insitu job list    # as the {person.name}"))


app = single(demo)
