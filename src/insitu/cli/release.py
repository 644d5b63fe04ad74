"""`insitu release …`: what waits for a verdict, and what left. Verdicts are signed with your key.

With --dir (at the site) the queue is the agent's; without it, what the hub knows of
all sites is shown. A verdict is given at the site only, and counts when the site's
policy lists your key under `reviewers` and the job is not your own. Looking at an
item is signed with the same key, so that the record says who looked.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import typer
from rich.text import Text

from insitu.cli.commands import command, group
from insitu.cli.output import current, state, when
from insitu.cli.release_text import describe_difference, describe_release
from insitu.cli.session import SiteDir, ask_site, hub, user_folders
from insitu.domain.errors import InvalidInputError
from insitu.domain.quantities import format_bytes
from insitu.domain.reviews import NEEDS_REASON, ReviewVerdict
from insitu.wire.people import ReleaseView

app = group("What waits for a verdict, and what left.")

MAX_REASON = 500
"""Characters; a verdict's document holds no more."""

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
        "state": lambda one: state(one["state"].replace("_", " ")),
        "job": lambda one: one["job_id"],
        "output": lambda one: one["output"],
        "rule": lambda one: one["rule"],
        "measure": lambda one: one["measure"],
        "size": lambda one: format_bytes(one["size_bytes"]),
        "judged": lambda one: when(one["at"]),
    }
    current().table(found, columns, key=lambda one: one["id"], empty="Nothing waits.")


@command(app, "show")
def show(release: Id, *, folder: SiteDir = None) -> None:
    """The evidence on one item: what it is, what was found, what was not checked. That you looked is recorded."""
    found = ask_site(folder, "release_show", id=release, view=_signed_view(release, "show"))
    current().show(found, *describe_release(found), name=found["id"])


@command(app, "diff")
def diff(release: Id, *, folder: SiteDir = None) -> None:
    """What differs from the last release of the same model or output, in files, arrays and code."""
    found = ask_site(folder, "release_diff", id=release, view=_signed_view(release, "diff"))
    current().show(found, *describe_difference(found), name=found["id"])


@command(app, "approve")
def approve(
    release: Id,
    *,
    resident: Annotated[
        bool, typer.Option("--resident", help="It may be used at this site, and not leave it.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; it goes into the record.")] = "",
    folder: SiteDir = None,
) -> None:
    """Let a held item leave, or be used at this site only. What was frozen counts, by digest."""
    _decide(release, ReviewVerdict.RESIDENT if resident else ReviewVerdict.APPROVE, reason, folder)


@command(app, "reject")
def reject(
    release: Id,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why; the data scientist sees it.")],
    folder: SiteDir = None,
) -> None:
    """Let a held item stay at the site for good."""
    _decide(release, ReviewVerdict.REJECT, reason, folder)


@command(app, "request-changes")
def request_changes(
    release: Id,
    *,
    reason: Annotated[str, typer.Option("--reason", help="What to change; the data scientist sees it.")],
    folder: SiteDir = None,
) -> None:
    """Let a held item stay, and say what would have to change. Another job brings another item."""
    _decide(release, ReviewVerdict.REQUEST_CHANGES, reason, folder)


def _signed_view(release: str, what: Literal["show", "diff"]) -> dict[str, Any]:
    """That this person looks at it, signed with the key that signs their verdicts."""
    import getpass

    from insitu.sdk.config import load_or_make_key
    from insitu.wire.verdicts import ViewDocument, sign_view

    name = getpass.getuser()[:64]
    document = ViewDocument(release_id=release, what=what, name=name, viewed_at=datetime.now(UTC))
    return sign_view(document, load_or_make_key(user_folders())).model_dump(mode="json")


_DONE: Mapping[str, str] = {
    "releasing": "It is written to the ledger and sent.",
    "announcing": "It stays at the site and may be used here; its card is sent.",
    "rejected": "It stays at the site.",
    "changes_requested": "It stays at the site; the data scientist sees your reason.",
    "under_review": "Your verdict is recorded. Another reviewer's is needed, who is not told yours.",
}


def _decide(release: str, verdict: ReviewVerdict, reason: str, folder: Any) -> None:
    from insitu.sdk.config import load_or_make_key
    from insitu.wire.verdicts import sign_verdict, verdict_document

    if verdict in NEEDS_REASON and not reason.strip():
        raise InvalidInputError(f"`{verdict.value}` needs a reason", code="no-reason", hint="--reason TEXT")
    terms = ask_site(folder, "release_terms", id=release)
    document = verdict_document(
        release_id=terms["id"],
        digest=terms["digest"],
        verdict=verdict,
        reason=_bounded(reason),
        policy_version=terms["policy_version"],
        ledger_entries=terms["ledger_entries"],
        ledger_hash=terms["ledger_hash"],
        now=datetime.now(UTC),
    )
    envelope = sign_verdict(document, load_or_make_key(user_folders()))
    decided = ask_site(folder, "release_decide", id=release, envelope=envelope.model_dump(mode="json"))
    out = current()
    word = decided["state"].replace("_", " ")
    out.show(decided, Text.assemble(state(word), f"  {decided['id']}"), name=decided["id"])
    out.note(Text(_DONE.get(decided["state"], ""), style="dim"))


def _bounded(reason: str) -> str:
    if len(reason) > MAX_REASON:
        raise InvalidInputError(
            f"the reason has {len(reason)} characters, and {MAX_REASON} fit",
            code="reason-too-long",
            hint="say what decides it; the rest can be told otherwise",
        )
    return reason.strip()
