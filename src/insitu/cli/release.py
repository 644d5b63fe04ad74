"""`insitu release …`: what waits for a verdict, and what left. Verdicts are signed with your key.

With --dir (at the site) the queue is the agent's; without it, what the hub knows of
all sites is shown. A verdict is given at the site only, and counts when the site's
policy lists your key under `reviewers` and the job is not your own.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import typer
from rich.text import Text

from insitu.cli.commands import command, group
from insitu.cli.errors import rule_line
from insitu.cli.output import Cell, current, fields, heading, hint, printable, short, state, table, when
from insitu.cli.session import SiteDir, ask_site, hub, user_folders
from insitu.domain.errors import InvalidInputError
from insitu.domain.quantities import format_bytes
from insitu.wire.people import ReleaseView

app = group("What waits for a verdict, and what left.")

Id = Annotated[str, typer.Argument(help="The release's id, as `insitu release list` prints it.", metavar="RELEASE")]


@command(app, "list")
def list_(
    *,
    which: Annotated[str, typer.Option("--state", help="Only those in this state, e.g. held.")] = "",
    folder: SiteDir = None,
) -> None:
    """The site's queue (with --dir), or what the hub knows of all sites."""
    if folder is not None:
        _list_at_site(ask_site(folder, "release_list", state=which))
        return
    with hub() as client:
        found = client.releases(verdicts=[which] if which else [])
    columns = {
        "job": lambda one: one.job_id,
        "output": lambda one: one.output.name,
        "state": lambda one: state(one.output.verdict),
        "rule": lambda one: one.output.rule,
        "measure": lambda one: one.output.measure,
        "size": lambda one: format_bytes(one.output.size_bytes),
        "site": lambda one: one.site,
        "by": lambda one: one.submitter,
        "decided": lambda one: when(one.decided_at),
    }
    current().table(found, columns, key=_hub_key, empty="Nothing was held or released yet.")


def _hub_key(one: ReleaseView) -> str:
    return f"{one.job_id}/{one.output.name}"


def _list_at_site(found: list[dict[str, Any]]) -> None:
    columns = {
        "release": lambda one: one["id"],
        "state": lambda one: state(one["state"]),
        "job": lambda one: one["job_id"],
        "output": lambda one: one["output"],
        "rule": lambda one: one["rule"],
        "measure": lambda one: one["measure"],
        "size": lambda one: format_bytes(one["size_bytes"]),
        "decided": lambda one: when(one["at"]),
    }
    current().table(found, columns, key=lambda one: one["id"], empty="Nothing waits.")


@command(app, "show")
def show(release: Id, *, folder: SiteDir = None) -> None:
    """One item at the site: what was found in it, its files, and where its frozen copy is."""
    found = ask_site(folder, "release_show", id=release)
    decision = found["decision"]
    facts: dict[str, Cell | None] = {
        "state": state(found["state"]),
        "job": f"{found['job_id']}, attempt {found['attempt']}",
        "output": found["output"],
        "digest": found["digest"],
        "size": format_bytes(found["size_bytes"]),
        "decided": when(found["at"]),
        "copy": found["folder"],
        "reviewer": found["reviewer"],
        "reason": found["reason"],
        "checks": ", ".join(decision.get("checks", ())),
        "not checked": ", ".join(decision.get("not_checked", ())),
    }
    findings = [
        Text.assemble(rule_line(one["rule"], one["measure"], one["limit"]), (f"  {printable(one['where'])}", "dim"))
        for one in decision.get("findings", ())
    ]
    files = table(
        found["files"],
        {
            "file": lambda one: one["path"],
            "size": lambda one: format_bytes(one["size_bytes"]),
            "digest": lambda one: short(one["digest"]),
        },
    )
    current().show(
        found,
        heading(found["id"]),
        fields(facts),
        *([heading("findings"), *findings] if findings else []),
        *([hint(found["hint"])] if found["hint"] else []),
        "",
        files,
        name=found["id"],
    )


@command(app, "approve")
def approve(
    release: Id,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why; it goes into the record.")] = "",
    folder: SiteDir = None,
) -> None:
    """Let a held item leave. What leaves is what was frozen, by digest."""
    _decide(release, "approve", reason, folder)


@command(app, "reject")
def reject(
    release: Id,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why; the data scientist sees it.")],
    folder: SiteDir = None,
) -> None:
    """Let a held item stay at the site for good."""
    if not reason.strip():
        raise InvalidInputError("a rejection needs a reason", code="no-reason", hint="--reason TEXT")
    _decide(release, "reject", reason, folder)


def _decide(release: str, verdict: Literal["approve", "reject"], reason: str, folder: Any) -> None:
    from insitu.sdk.config import load_or_make_key
    from insitu.wire.verdicts import sign_verdict, verdict_document

    item = ask_site(folder, "release_show", id=release)
    document = verdict_document(
        release_id=item["id"],
        digest=item["digest"],
        verdict=verdict,
        reason=reason,
        policy_version=item["policy_version"],
        ledger_entries=item["ledger_entries"],
        ledger_hash=item["ledger_hash"],
        now=datetime.now(UTC),
    )
    envelope = sign_verdict(document, load_or_make_key(user_folders()))
    decided = ask_site(folder, "release_decide", id=release, envelope=envelope.model_dump(mode="json"))
    out = current()
    out.show(decided, Text.assemble(state(decided["state"]), f"  {decided['id']}"), name=decided["id"])
    word = "It is written to the ledger and sent." if verdict == "approve" else "It stays at the site."
    out.note(Text(word, style="dim"))
