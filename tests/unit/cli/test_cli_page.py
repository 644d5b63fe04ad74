"""docs/cli.md names every command and every exit code that there is."""

from __future__ import annotations

import re
from pathlib import Path

from insitu.cli.commands import ROOT, load
from insitu.domain import errors

PAGE = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()


def names() -> set[str]:
    found = set()
    for name in ROOT:
        pending = [(name, load(name))]
        while pending:
            words, command = pending.pop()
            below = getattr(command, "commands", None)
            if below is None:
                found.add(words)
            else:
                pending += [(f"{words} {word}", one) for word, one in below.items() if not one.hidden]
    return found


def test_the_page_names_every_command_and_no_other():
    told = set()
    for line in PAGE.partition("## What all commands have")[0].splitlines():
        if line.startswith("| `insitu"):
            cell = line.split(" | ")[0]
            told |= {re.split(r" [A-Z\[-]", text.removeprefix("insitu "))[0] for text in re.findall(r"`([^`]+)`", cell)}
    assert told == names()


def test_the_page_names_every_exit_code():
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.InsituError)]
    assert told == {kind.exit_code for kind in kinds} | {0, 130}
