"""`insitu ledger …`: the record of what left a site, and the proof that nobody changed it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from insitu.cli.commands import command, group
from insitu.cli.output import current, fields, short, state, when
from insitu.cli.session import SiteDir, ask_site, site_folder
from insitu.domain.errors import NotFoundError
from insitu.domain.quantities import format_bytes

app = group("The record of what left a site.")


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
    current().table(found, columns, key=lambda one: str(one["seq"]), empty="Nothing has left yet.")


def describe(entry: dict[str, Any]) -> str:
    """What an entry is about: its name and its counts."""
    counts = ", ".join(f"{count} {what}" for what, count in entry["counts"].items())
    return " ".join(part for part in (entry["name"], f"({counts})" if counts and entry["name"] else counts) if part)


@command(app, "verify")
def verify(
    file: Annotated[Path | None, typer.Argument(help="A ledger; without one: the site's.", metavar="[FILE]")] = None,
    *,
    folder: SiteDir = None,
) -> None:
    """Check the chain of hashes from the first entry to the last. Needs neither hub nor agent."""
    from insitu.wire.ledger import verify as verify_lines

    path = file or site_folder(folder) / "ledger.jsonl"
    if not path.is_file():
        raise NotFoundError(f"there is no ledger {path}", code="no-ledger", hint="ledger.jsonl is in the site's folder")
    with path.open("rb") as stream:
        head = verify_lines(stream)
    found = {"verified": True, "entries": head.entries, "head": head.hash, "file": str(path)}
    line = Text.assemble(state("ok"), f"  {head.entries} entries, each bound to the one before it")
    current().show(found, line, fields({"head": head.hash, "file": str(path)}), name=head.hash)
