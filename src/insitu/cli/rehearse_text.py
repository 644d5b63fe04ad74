"""What a rehearsal found, as text for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from insitu.cli.errors import rule_line
from insitu.cli.output import fields, heading, hint, printable, state
from insitu.domain.quantities import format_bytes

_WOULD = {
    "succeeded": "would pass",
    "held": "would be held by",
    "refused": "would be refused by",
    "failed": "failed before it could be judged by",
    "cancelled": "was ended before it could be judged by",
}


def describe(told: Mapping[str, Any]) -> Iterator[RenderableType]:
    """One sentence, then what would become of each thing, then what this can't tell."""
    yield Text.assemble(state(told["state"]), "  ", (sentence(told), "bold"))
    if told["state"] not in ("succeeded", "held"):
        yield from _reason(told)
    yield ""
    yield fields({one["input"]: f"{one['dataset']}: {one['data']}" for one in told["data"]})
    for one in told["outputs"]:
        yield from _output(one)
    for kind, count in told["released"].items():
        yield Text.assemble(state("released"), f"  {count} × {kind}")
    for one in told["kept"]:
        yield Text.assemble(state("kept"), f"  at least {one['at_least']} × {one['kind']}")
        yield rule_line(one["rule"], "", one["limit"])
        yield hint(one["hint"])
    if told["said"]:
        yield heading("what the script said last, of which the site would tell less:")
        yield Text("\n".join(printable(line) for line in told["said"].splitlines()[-20:]), style="dim")
    yield ""
    yield heading("not rehearsed:")
    yield from (Text(f"  {one}", style="dim") for one in told["not_checked"])


def sentence(told: Mapping[str, Any]) -> str:
    """`this job would pass policy v7 of leeds; it would spend 41 kB of 5 MB`."""
    policy, spends = told["policy"], told["spends"]
    spent = f"it would spend {format_bytes(spends['size_bytes'])} of {format_bytes(spends['limit_bytes'])}"
    return printable(
        f"this job {_WOULD.get(told['state'], 'ended under')} policy v{policy['version']} of {policy['of']}; {spent}"
    )


def _reason(told: Mapping[str, Any]) -> Iterator[RenderableType]:
    reason = told["reason"]
    yield Text(printable(str(reason.get("what", ""))))
    if reason.get("rule"):
        yield rule_line(reason["rule"], reason.get("measure", ""), reason.get("limit", ""))
    if reason.get("hint"):
        yield hint(reason["hint"])


def _output(one: Mapping[str, Any]) -> Iterator[RenderableType]:
    size = f", {format_bytes(one['size_bytes'])}" if one["size_bytes"] else ""
    yield Text.assemble(state(one["verdict"]), printable(f"  output {one['output']}{size}"))
    if one["verdict"] == "released":
        return
    yield rule_line(one["rule"], one["measure"], one["limit"])
    for finding in one["findings"][:5]:
        if finding["rule"] != one["rule"]:
            yield rule_line(finding["rule"], finding["measure"], finding["limit"])
    if one["hint"]:
        yield hint(one["hint"])
