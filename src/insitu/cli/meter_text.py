"""What leaves a site, as bars: by channel, and of each budget. The hub's view and the site's own look alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from insitu.cli.output import Output, fields, heading, printable, state, table
from insitu.domain.quantities import format_bytes

_BAR = 20  # characters
_NEARLY = 0.8  # of a budget: then it is yellow
_CHANNELS: Mapping[str, str] = {
    "metric": "metrics",
    "param": "parameters",
    "tag": "tags",
    "run": "runs",
    "log": "log lines",
    "note": "notes of the site",
    "file": "outputs",
}


def bar(part: int, whole: int) -> Text:
    """How much of a budget is used. Anything at all is at least one mark."""
    share = min(1.0, part / whole) if whole else float(part > 0)
    marks = max(1, round(share * _BAR)) if part else 0
    style = "red" if share >= 1 else "yellow" if share >= _NEARLY else "green"
    return Text.assemble(("█" * marks, style), ("·" * (_BAR - marks), "dim"), f" {100 * share:3.0f} %")


def of_hub(meter: Mapping[str, Any]) -> list[RenderableType]:
    """A job's meter as its hub knows it."""
    shown: list[RenderableType] = []
    if meter["room_bytes"]:
        left = Text.assemble(
            bar(meter["left_bytes"], meter["room_bytes"]),
            f"  {format_bytes(meter['left_bytes'])} of about {format_bytes(meter['room_bytes'])} that it may send",
        )
        shown.append(left)
    if meter["channels"]:
        shown.append(_channels(meter["channels"]))
    return shown


def of_site(job: Mapping[str, Any]) -> list[RenderableType]:
    """A job's meter as its site counts it."""
    title = heading(f"{printable(job.get('name', ''))}  {job['job_id']}".strip())
    who = f"  by {job['submitter']}, data: {', '.join(job['datasets'])}" if "submitter" in job else ""
    shown: list[RenderableType] = [Text.assemble(title, "  ", state(job["state"]), (printable(who), "dim"))]
    if job["channels"]:
        shown.append(_channels(job["channels"]))
    budgets = {
        " ".join(part for part in (line["rule"], line["whose"]) if part): Text.assemble(
            bar(line["left_bytes"], line["limit_bytes"]),
            f"  {format_bytes(line['left_bytes'])} of {format_bytes(line['limit_bytes'])}",
        )
        for line in job["budgets"]
    }
    told = {"left": format_bytes(job["left_bytes"]), "could carry": f"at most {format_bytes(job['could_carry_bytes'])}"}
    read = [f"{format_bytes(count)} of {label}" for label, count in job.get("read_bytes", {}).items()]
    inbound = {"read through the gate": ", ".join(read)} if read else {}
    shown.append(fields({**told, **inbound, **budgets}))
    return shown


def _channels(channels: Sequence[Mapping[str, Any]]) -> RenderableType:
    most = max(1, *(channel["left_bytes"] for channel in channels), 0)
    columns: dict[str, Callable[[Any], str | Text]] = {
        "channel": lambda one: _CHANNELS.get(one["channel"], printable(one["channel"])),
        "entries": lambda one: str(one["entries"]),
        "bytes": lambda one: format_bytes(one["left_bytes"]),
        "": lambda one: Text("▪" * max(1, round(_BAR * one["left_bytes"] / most)) if one["left_bytes"] else "", "cyan"),
    }
    return table(channels, columns)


def keep_showing(out: Output, states: Iterable[tuple[Any, Sequence[RenderableType]]]) -> None:
    """Show each state in place of the one before it; for programs, one line of JSON each; in a file, one below."""
    if out.as_json:
        for value, _ in states:
            out.json_line(value)
        return
    if not out.out.is_terminal:
        for value, parts in states:
            out.show(value, *parts)
        return
    with Live(console=out.out, auto_refresh=False) as live:
        for _, parts in states:
            live.update(Group(*parts), refresh=True)
