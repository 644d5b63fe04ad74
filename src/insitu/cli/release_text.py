"""A release's evidence as text for a reviewer: what it is, what was found, and what was not checked.

Three marks, and the third is never left out: ✗ a rule found something, ? it was not
checked, ✓ it was checked and found nothing. Whatever a job wrote is printed without
control characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from insitu.cli.errors import rule_line
from insitu.cli.output import Cell, command, fields, heading, hint, printable, short, state, table, when
from insitu.domain.quantities import format_bytes

_MARKS: Mapping[str, tuple[str, str]] = {
    "found": ("✗", "red"),
    "not checked": ("?", "yellow"),
    "passed": ("✓", "green"),
}
_RULES: Mapping[str, str] = {"all": "all: the judge ended without a decision"}
_MODES: Mapping[str, str] = {"+": "green", "-": "red", "@": "cyan"}


def describe_release(found: Mapping[str, Any]) -> list[RenderableType]:
    """The evidence page of one item."""
    shown: list[RenderableType] = [
        Text.assemble((found["id"], "bold"), "  ", state(found["state"].replace("_", " "))),
        *_why(found),
        "",
        heading("what it is"),
        fields(_what(found)),
        "",
        heading("who asked"),
        fields(_who(found)),
        "",
        heading("checks"),
        _checks(found["checks"], found["decision"].get("passed_over", ())),
        "",
        heading("budgets"),
        _budgets(found["budgets"]),
        "",
        heading("review"),
        fields(_review(found)),
        "",
        heading("files"),
        _files(found["files"]),
    ]
    if found["state"] in ("held", "under_review"):
        shown += ["", *_commands(found["id"], can_be_approved=bool(found["files"]))]
    return shown


def describe_difference(found: Mapping[str, Any]) -> list[RenderableType]:
    """What differs from the last release, in files, arrays and code."""
    last = found["last_release"]
    since = (
        f"since {last['id']} of job {last['job_id']}, {when(last['at'])}" if last else "nothing like it was released"
    )
    shown: list[RenderableType] = [Text.assemble((found["id"], "bold"), f"  {since}"), "", heading("files")]
    columns = {
        "file": lambda one: one["path"],
        "": lambda one: one["change"],
        "before": lambda one: _size(one["before"]),
        "now": lambda one: _size(one["after"]),
    }
    shown.append(table(found["files"], columns))
    if found["arrays"]:
        shown += ["", heading("arrays"), fields(_arrays(found["arrays"]))]
    return [*shown, "", heading("code"), *_code(found["code"])]


# -- pieces of the page ------------------------------------------------------------------------------------------------


def _why(found: Mapping[str, Any]) -> list[RenderableType]:
    shown: list[RenderableType] = []
    if found["rule"] and found["rule"] != "clean":
        shown.append(rule_line(found["rule"], found["measure"], found["limit"]))
    overruled = found.get("overruled")
    if overruled:
        shown.append(Text(f"  it was on its way, and held back: {printable(overruled.get('what', ''))}"))
    if found["hint"]:
        shown.append(Text.assemble("  ", hint(found["hint"])))
    return shown


def _what(found: Mapping[str, Any]) -> dict[str, Cell | None]:
    contents = found["contents"]
    counted = f"{contents['arrays']:,} arrays with {contents['numbers']:,} numbers"
    if contents["not_counted"]:
        counted = Text(f"not counted: {printable(contents['not_counted'])}", style="yellow")
    model = f", to be registered as {found['register']}" if found["register"] else ""
    return {
        "output": f"{found['output']} ({found['type']}{model})",
        "size": f"{format_bytes(found['size_bytes'])} in {len(found['files'])} files",
        **{f"of {data['name']}": _share(found["size_bytes"], data) for data in found["datasets"]},
        "contents": counted,
        "ceiling": _ceiling(found),
        "digest": found["digest"] or Text("no canonical copy: nothing could be released", style="yellow"),
        "copy": found["folder"],
    }


def _ceiling(found: Mapping[str, Any]) -> str | None:
    if not found["files"]:
        return None
    if not found["ceiling_bytes"]:
        return "not stated for this kind of output: it could carry its whole size"
    return f"{format_bytes(found['ceiling_bytes'])} could be carried beyond what the policy asked for"


def _share(size_bytes: int, data: Mapping[str, Any]) -> str:
    if not data["size_bytes"]:
        return "the dataset is not here any more"
    share = 100 * size_bytes / data["size_bytes"]
    return f"{share:.3g} % of its {format_bytes(data['size_bytes'])} ({data['rows']:,} rows)"


def _who(found: Mapping[str, Any]) -> dict[str, Cell | None]:
    asked, envelope, code = found["asked"], found["run_envelope"], found["code"]
    if envelope["digest"]:
        changed = "approved with the run envelope"
    elif code["same"]:
        changed = f"the same as in {printable(code['approved_by'])}"
    elif code["last_approved"]:
        changed = f"differs from {printable(code['approved_by'])}: `insitu release diff {found['id']}`"
    else:
        changed = f"nothing like it was approved: `insitu release diff {found['id']}` shows all of it"
    last = found["last_release"]
    return {
        "by": f"{asked['name']}, {asked['key']}",
        "job": f"{asked['job']}, {found['job_id']}, attempt {found['attempt']}",
        "purpose": asked["purpose"],
        "command": asked["command"],
        "signed": when(asked["signed_at"]),
        "run envelope": envelope["digest"]
        or f"none covers it{': ' if envelope['why_none'] else ''}{envelope['why_none']}",
        "code": f"{short(code['digest'])}, {changed}",
        "last release": f"{last['id']}, {format_bytes(last['size_bytes'])}, {when(last['at'])}" if last else "none",
    }


def _checks(rows: Iterable[Mapping[str, str]], passed_over: Sequence[str]) -> RenderableType:
    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    passed: list[str] = []
    for row in rows:
        if row["result"] == "passed":
            passed.append(row["rule"])
        else:
            made.add_row(_mark(row["result"]), _finding(row))
    if passed_over:
        places = "\n".join(printable(place) for place in passed_over)
        made.add_row(
            _mark("not checked"), Text.assemble(("not searched for what may hide there", "bold"), f"\n{places}")
        )
    if passed:
        made.add_row(_mark("passed"), Text(", ".join(passed)))
    if not made.rows:
        made.add_row(_mark("not checked"), Text("nothing was checked"))
    return made


def _mark(result: str) -> Text:
    symbol, style = _MARKS[result]
    return Text(f"{symbol} {result}", style=style)


def _finding(row: Mapping[str, str]) -> Text:
    shown = Text(_RULES.get(row["rule"], printable(row["rule"])), style="bold")
    if row["measure"]:
        shown.append(f": {printable(row['measure'])}", "not bold")
    if row["limit"]:
        shown.append(f" (limit: {printable(row['limit'])})", "not bold dim")
    if row["where"]:
        shown.append(f"\n{printable(row['where'])}", "not bold dim")
    return shown


def _budgets(lines: list[Mapping[str, Any]]) -> RenderableType:
    columns = {
        "budget": lambda one: one["rule"].removeprefix("budget.") + (f" ({one['whose']})" if one["whose"] else ""),
        "before": lambda one: format_bytes(one["before"]),
        "with this": lambda one: Text(format_bytes(one["after"]), style="red" if one["is_over"] else ""),
        "limit": lambda one: format_bytes(one["limit"]) + ("  ! over" if one["is_over"] else ""),
    }
    return table(lines, columns)


def _review(found: Mapping[str, Any]) -> dict[str, Cell | None]:
    review = found["review"]
    given = review["given_by"]
    standing = f"{len(given)} of {review['needed']} verdicts given"
    if given and not review["verdicts"]:
        standing += f", by {', '.join(given)}; what was said is shown when all are in"
    said = {
        one["reviewer"]: f"{one['verdict']}{': ' if one['reason'] else ''}{printable(one['reason'])}"
        for one in review["verdicts"]
    }
    seen: dict[str, int] = {}
    for view in found["views"]:
        who = view["viewer"] if view["signed"] else "somebody who did not sign"
        seen[who] = seen.get(who, 0) + 1
    views = ", ".join(f"{who} ({count} ×)" for who, count in seen.items())
    return {"verdicts": standing, **said, "looked at by": views}


def _files(files: list[Mapping[str, Any]]) -> RenderableType:
    columns = {
        "file": lambda one: one["path"],
        "size": lambda one: format_bytes(one["size_bytes"]),
        "digest": lambda one: short(one["digest"]),
    }
    return table(files, columns) if files else Text("  none: the gate could not rewrite it", style="yellow")


def _commands(item: str, *, can_be_approved: bool) -> list[RenderableType]:
    approvals = [
        command(f"insitu release approve {item}              # it may leave"),
        command(f"insitu release approve --resident {item}   # it may be used here, and not leave"),
    ]
    return [
        command(f"insitu release diff {item}"),
        *(approvals if can_be_approved else ()),
        command(f'insitu release request-changes {item} --reason "…"'),
        command(f'insitu release reject {item} --reason "…"'),
    ]


def _arrays(found: Mapping[str, Any]) -> dict[str, Cell | None]:
    before, after = found["numbers_before"], found["numbers_after"]
    return {
        "same": f"{found['same']:,}",
        "changed": f"{found['changed']:,} ({found['reshaped']:,} with another type or shape)",
        "new": f"{found['added']:,}",
        "gone": f"{found['removed']:,}",
        "numbers": f"{before:,} before, {after:,} now",
        "not counted": Text(printable(found["not_counted"]), style="yellow") if found["not_counted"] else None,
    }


def _code(code: Mapping[str, Any]) -> list[RenderableType]:
    diff, approved_by = code["diff"], printable(code["approved_by"])
    if code["same"]:
        return [Text(f"  the same as in {approved_by}")]
    if diff is None:
        return [Text("  ? not compared: a code snapshot is not in this site's cache any more", style="yellow")]
    since = f"since {approved_by}" if approved_by else "no code was approved for this here before: all of it"
    shown: list[RenderableType] = [Text(f"  {since}", style="dim")]
    for line in diff["lines"]:
        style = "bold" if line.startswith(("+++", "---")) else _MODES.get(line[:1], "")
        shown.append(Text(f"  {printable(line)}", style=style))
    if diff["cut"]:
        shown.append(Text(f"  {diff['cut']}", style="yellow"))
    return shown if diff["lines"] or diff["cut"] else [*shown, Text("  nothing differs")]


def _size(size_bytes: int | None) -> str:
    return "" if size_bytes is None else format_bytes(size_bytes)
