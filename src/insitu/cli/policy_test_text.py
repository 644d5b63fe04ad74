"""`insitu policy test` as text for people: job by job, what would have been otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from insitu.cli.output import heading, printable, state, table, when


def describe(found: dict[str, Any]) -> Iterator[RenderableType]:
    """A table of jobs, and below it what differs in each."""
    columns = {
        "job": lambda one: one["job"],
        "name": lambda one: one["name"],
        "by": lambda one: one["by"],
        "signed": lambda one: when(one["signed_at"]),
        "then": lambda one: _word(one["then"]),
        "now": lambda one: _word(one["now"]),
        "outputs": _outputs,
    }
    yield table(found["jobs"], columns)
    for job in found["jobs"]:
        lines = list(_lines(job))
        if lines:
            yield ""
            yield heading(job["job"])
            yield from lines
    yield ""
    yield Text(summary(found), style="bold")


def summary(found: dict[str, Any]) -> str:
    """`2 of 20 jobs would have been otherwise; of 1 the site has kept too little to tell.`"""
    text = f"{found['differ']} of {found['asked']} jobs would have been otherwise"
    return text + (f"; of {found['uncertain']} the site has kept too little to tell" if found["uncertain"] else "")


def _word(word: str) -> str | Text:
    return state(word) if word == "refused" else word


def _outputs(job: dict[str, Any]) -> str:
    words = [f"{one['output']}: {_change(one)}" for one in job["outputs"]]
    return ", ".join(words) or ("none" if job["now"] == "runs" else "")


def _change(output: dict[str, Any]) -> str:
    return str(output["then"]) if output["then"] == output["now"] else f"{output['then']} → {output['now']}"


def _lines(job: dict[str, Any]) -> Iterator[Text]:
    if job["then"] != job["now"]:
        yield Text(f"  {job['then']} → {job['now']}: {printable(job['why'])}".rstrip(": "))
    for one in job["outputs"]:
        if one["then"] != one["now"]:
            limit = f" (limit: {one['limit']})" if one["limit"] else ""
            why = f"{one['now_rule']}: {one['measure']}{limit}" if one["now_rule"] else ""
            yield Text(f"  {one['output']}: {_change(one)}  {printable(why)}").append(f"  {one['how']}", "dim")
    for line in job["stays"]:
        yield Text(f"  would stay: {printable(line)}")
