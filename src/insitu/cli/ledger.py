"""`insitu ledger …`: the record of what left a site, and the proof that nobody changed it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from insitu.cli import meter_text
from insitu.cli.commands import command, group
from insitu.cli.output import current, fields, short, state, when
from insitu.cli.session import SiteDir, ask_site, site_folder
from insitu.domain.errors import NotFoundError, UnavailableError
from insitu.domain.quantities import format_bytes

if TYPE_CHECKING:
    from insitu.wire.heads import CountersignedHead

app = group("The record of what left a site.")

_PAUSE_S = 0.5  # between two looks at the meter


@command(app, "show")
def show(
    *,
    dataset: Annotated[str, typer.Option("--dataset", help="Only what is about this dataset.")] = "",
    job: Annotated[str, typer.Option("--job", help="Only what is of this job.")] = "",
    folder: SiteDir = None,
) -> None:
    """What left, entry by entry, and by which rule."""
    found = ask_site(folder, "ledger_show", dataset=dataset, job=job)
    columns = {
        "entry": lambda one: str(one["seq"]),
        "when": lambda one: when(one["at"]),
        "kind": lambda one: one["kind"],
        "what": describe,
        "bytes": lambda one: format_bytes(one["size_bytes"]),
        "decision": lambda one: state(one["decision"]) if one["decision"] else "",
        "rule": lambda one: one["rule"],
        "job": lambda one: one["job_id"],
        "digest": lambda one: short(one["digest"]),
    }
    current().table(found, columns, key=lambda one: str(one["seq"]), empty=_nothing(dataset or job))
    if found:
        current().note(_in_all(found))


def _nothing(about: str) -> str:
    return f"Nothing about {about} has left." if about else "Nothing has left yet."


def _in_all(entries: list[dict[str, Any]]) -> str:
    """The one line that answers what ever left: how much, of what kind, in which time, for how many people."""
    left = [one for one in entries if one["decision"] == "released"]
    kinds = Counter(one["kind"] for one in left)
    parts = ", ".join(f"{count} × {kind}" for kind, count in sorted(kinds.items())) or "nothing"
    people = len({one["submitter"] for one in left if one["submitter"]})
    ceiling = sum(one.get("ceiling_bytes", 0) for one in left)
    line = f"In all {format_bytes(sum(one['size_bytes'] for one in left))}: {parts}; for {people} submitters"
    return line + (f"; models could carry {format_bytes(ceiling)} beyond what was asked for" if ceiling else "")


def describe(entry: dict[str, Any]) -> str:
    """What an entry is about: its name and its counts."""
    counts = ", ".join(f"{count} {what}" for what, count in entry["counts"].items())
    return " ".join(part for part in (entry["name"], f"({counts})" if counts and entry["name"] else counts) if part)


@command(app, "meter")
def meter(
    job: Annotated[str, typer.Argument(help="A job's id; without one: all that are not over.", metavar="[JOB]")] = "",
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as things leave, until Ctrl-C.")] = False,
    folder: SiteDir = None,
) -> None:
    """What is leaving now: each job's channels, and how much of every budget is used."""
    out = current()
    if not follow:
        found = ask_site(folder, "meter_show", job=job)
        out.show(found, *_metered(found), name="\n".join(one["job_id"] for one in found))
        return
    with suppress(KeyboardInterrupt):
        meter_text.keep_showing(out, _meter_again(folder, job))


def _meter_again(folder: Path | None, job: str) -> Iterator[tuple[list[dict[str, Any]], list[RenderableType]]]:
    before = None
    while True:
        found = ask_site(folder, "meter_show", job=job)
        if found != before:
            yield found, _metered(found)
        before = found
        time.sleep(_PAUSE_S)


def _metered(found: list[dict[str, Any]]) -> list[RenderableType]:
    if not found:
        return [Text("No job is at work here.", style="dim")]
    return [part for one in found for part in (*meter_text.of_site(one), "")][:-1]


@command(app, "verify")
def verify(
    file: Annotated[
        Path | None, typer.Argument(help="A ledger or an export of one; without it: the site's.", metavar="[FILE]")
    ] = None,
    *,
    head: Annotated[
        Path | None, typer.Option("--head", help="A countersigned head to compare with; the site's: ledger-head.json.")
    ] = None,
    folder: SiteDir = None,
) -> None:
    """Check what left, from the first entry to the last, and that the hub saw the same. Needs neither hub nor agent.

    Of an export each entry is checked to be one of the ledger's. The keys that signed the head are printed: compare
    them with those that you know.
    """
    path = file or site_folder(folder) / "ledger.jsonl"
    if not path.is_file():
        raise NotFoundError(f"there is no ledger {path}", code="no-ledger", hint="ledger.jsonl is in the site's folder")
    found = verify_file(path, _head_beside(path, head))
    current().show(found, *_verified_text(found), name=found["head"])


@command(app, "export")
def export(
    *,
    dataset: Annotated[str, typer.Option("--dataset", help="Only what is about this dataset.")] = "",
    job: Annotated[str, typer.Option("--job", help="Only what is of this job.")] = "",
    out: Annotated[Path | None, typer.Option("-o", "--out", help="A file; without it: standard output.")] = None,
    folder: SiteDir = None,
) -> None:
    """Write entries as JSON lines, each with its proof, for somebody who may not see the rest.

    `insitu ledger verify FILE` checks them anywhere.
    """
    from insitu.wire.ledger_exports import export_lines

    path = site_folder(folder) / "ledger.jsonl"
    if not path.is_file():
        raise NotFoundError(f"there is no ledger {path}", code="no-ledger", hint="ledger.jsonl is in the site's folder")
    with path.open("rb") as stream:
        lines = export_lines(stream, lambda entry: entry.is_about(dataset, job), _head_beside(path, None))
        if out is None:
            for line in lines:
                typer.echo(line, nl=False)
            return
        _write_whole(out, lines)
    count = sum(1 for _ in out.open("rb")) - 1
    found = {"file": str(out), "entries": count, "size_bytes": out.stat().st_size}
    current().show(found, Text(f"{count} entries, {format_bytes(found['size_bytes'])}: {out}"), name=str(out))


def _write_whole(out: Path, lines: Iterable[str]) -> None:
    """A file that is there is complete."""
    work = out.with_name(f".{out.name}.making")
    try:
        with work.open("w", encoding="utf-8") as target:
            target.writelines(lines)
        work.replace(out)
    except OSError as exc:
        raise UnavailableError(f"{out} can't be written", code="export-write", why=exc.strerror or "") from exc
    finally:
        work.unlink(missing_ok=True)


def _head_beside(path: Path, given: Path | None) -> CountersignedHead | None:
    """The head that was named, or the one beside a site's ledger; none where the hub has not countersigned yet."""
    from insitu.wire.heads import parse_head

    found = given or path.with_name("ledger-head.json")
    if given is None and not found.is_file():
        return None
    try:
        return parse_head(found.read_text())
    except OSError as exc:
        raise NotFoundError(f"{found} can't be read", code="no-ledger-head", why=exc.strerror or "") from exc


def verify_file(path: Path, head: CountersignedHead | None) -> dict[str, Any]:
    """What holds of a ledger or an export.

    Raises:
        IntegrityError: something doesn't.
    """
    from insitu.wire.heads import check_begins_with, check_signatures
    from insitu.wire.ledger import read_ledger
    from insitu.wire.ledger_exports import is_export, read_export

    with path.open("rb") as stream:
        exported = is_export(stream.readline())
        stream.seek(0)
        if exported:
            part = read_export(stream)
            known = {"entries": part.ledger_entries, "head": part.root, "exported": len(part.entries)}
            head = part.countersigned
        else:
            ledger = read_ledger(stream)
            known = {"entries": ledger.head.entries, "head": ledger.head.hash, "root": ledger.head.root}
            if head is not None:
                check_begins_with(ledger, head)
    signers = check_signatures(head) if head is not None else ("", "")
    signed = {"countersigned": head.entries if head else 0, "site_key": signers[0], "hub_key": signers[1]}
    return {"verified": True, **known, **signed, "file": str(path)}


def _verified_text(found: dict[str, Any]) -> tuple[Text, Any]:
    if "exported" in found:
        what = f"  {found['exported']} entries, each proved to be one of a ledger of {found['entries']}"
    else:
        what = f"  {found['entries']} entries, each bound to the one before it"
    seen = f"; the hub countersigned the first {found['countersigned']}" if found["countersigned"] else ""
    shown = {"head": found["head"], "site's key": found["site_key"], "hub's key": found["hub_key"]}
    if not found["countersigned"]:
        shown = {"head": found["head"], "countersigned": "not yet: nothing from the hub to compare with"}
    return Text.assemble(state("ok"), what + seen), fields({**shown, "file": found["file"]})
