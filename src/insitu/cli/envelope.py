"""`insitu envelope …`: kinds of run that a reviewer approves once, signed with your key.

A job inside one is released by itself, within the policy's ceiling and budgets; a
job outside still runs, and what it wrote waits for a reviewer. A run envelope is
given at the site only, and counts when the site's policy lists your key under
`reviewers` and the jobs that it is for are not your own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from insitu.cli.commands import command, group
from insitu.cli.envelope_draft import Wider, draft_from_file, widen
from insitu.cli.output import Cell, current, fields, heading, short, state, when
from insitu.cli.output import command as to_go_on
from insitu.cli.session import SiteDir, ask_site, ask_yes, user_folders
from insitu.domain.errors import InvalidInputError
from insitu.wire.run_envelopes import RunEnvelopeDocument

app = group("Kinds of run that a reviewer approves once.")

Id = Annotated[str, typer.Argument(help="Its id, or the first digits of it.", metavar="ENVELOPE")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]


@command(app, "create")
def create(
    *,
    job: Annotated[
        str,
        typer.Option("--job", help="A job that ran here, or a job file.", metavar="JOB|JOB.yaml", show_default=False),
    ],
    params: Annotated[
        list[str] | None,
        typer.Option("--param", help="Allow other values: C=0.1..10, or estimator=logistic,ridge.", metavar="NAME=…"),
    ] = None,
    who: Annotated[list[str] | None, typer.Option("--who", help="Whose jobs; by default the job's signer.")] = None,
    runs: Annotated[int | None, typer.Option("--runs", help="How many jobs. [default: 20]", show_default=False)] = None,
    until: Annotated[str, typer.Option("--until", help="A date, or e.g. 30d, which is the default.")] = "",
    any_version: Annotated[
        bool, typer.Option("--any-version", help="Any version of the job's datasets, also later ones.")
    ] = False,
    locks: Annotated[
        list[str] | None,
        typer.Option("--lock", help="Packages by the digest of their lock, or any.", metavar="DIGEST|any"),
    ] = None,
    title: Annotated[str, typer.Option("--title", help="What to call it; by default as the job is called.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what it would allow, and sign nothing.")] = False,
    yes: Yes = False,
    folder: SiteDir = None,
) -> None:
    """Approve runs like this one: say what may differ, see what it allows, sign it."""
    wider = Wider(tuple(params or ()), tuple(who or ()), tuple(locks or ()), any_version, runs, until, title)
    terms = ask_site(folder, "envelope_terms")
    path = Path(job)
    if path.suffix in {".yaml", ".yml"}:
        start = draft_from_file(path, terms, wider)
    else:
        start = RunEnvelopeDocument.model_validate(ask_site(folder, "envelope_draft", job=job))
    document = widen(start, wider, terms)
    out = current()
    if dry_run:
        out.show({"allows": document, "signed": False}, *_describe(document))
        return
    for part in _describe(document):
        out.note(part)
    _sign(document, yes=yes, folder=folder)


@command(app, "sign")
def sign(envelope: Id, *, yes: Yes = False, folder: SiteDir = None) -> None:
    """Add your signature to one that another reviewer made, where the policy wants two."""
    found = ask_site(folder, "envelope_show", id=envelope)
    document = RunEnvelopeDocument.model_validate(found["allows"])
    for part in _describe(document):
        current().note(part)
    _sign(document, yes=yes, folder=folder)


def _sign(document: RunEnvelopeDocument, *, yes: bool, folder: Any) -> None:
    from insitu.sdk.config import load_or_make_key
    from insitu.wire.run_envelopes import sign_run_envelope

    if not yes and not ask_yes("Sign it?"):
        raise typer.Abort
    sealed = sign_run_envelope(document, load_or_make_key(user_folders()))
    added = ask_site(folder, "envelope_add", envelope=sealed.model_dump(mode="json"))
    out = current()
    out.show(added, Text.assemble(state(added["state"]), f"  {added['id']}"), name=added["id"])
    if len(added["signed_by"]) < added["needed"]:
        out.note(Text("It covers nothing yet: another reviewer signs it too, with their key:", style="dim"))
        out.note(to_go_on(f"insitu envelope sign {short(added['id'])}"))


@command(app, "list")
def list_(*, folder: SiteDir = None) -> None:
    """The site's run envelopes, newest first."""
    columns = {
        "envelope": lambda one: short(one["id"]),
        "state": lambda one: state(one["state"]),
        "title": lambda one: one["title"],
        "for": lambda one: ", ".join(one["allows"]["who"]),
        "runs": lambda one: f"{one['runs']} of {one['allows']['runs']}",
        "until": lambda one: when(one["allows"]["expires_at"]),
        "signed by": lambda one: ", ".join(one["signed_by"]),
    }
    found = ask_site(folder, "envelope_list")
    current().table(
        found, columns, key=lambda one: one["id"], empty="There is none. `insitu envelope create --job JOB` makes one."
    )


@command(app, "show")
def show(
    envelope: Id,
    *,
    job: Annotated[str, typer.Option("--job", help="Say why this job is outside.")] = "",
    folder: SiteDir = None,
) -> None:
    """What a run envelope allows, and how many runs it has covered."""
    found = ask_site(folder, "envelope_show", id=envelope, job=job)
    document = RunEnvelopeDocument.model_validate(found["allows"])
    standing: dict[str, Cell | None] = {
        "state": state(found["state"]),
        "id": found["id"],
        "signed by": ", ".join(found["signed_by"]) or "nobody whom the policy lists now",
        "covered": f"{found['runs']} runs",
        "revoked": when(found["revoked_at"]),
        "reason": found["reason"],
    }
    parts: list[RenderableType] = [*_describe(document), "", fields(standing)]
    if job:
        outside = found["job"]["outside"]
        parts += ["", heading(f"job {job} is {'outside' if outside else 'inside'}")]
        parts += [Text(f"  {line}") for line in outside]
    current().show(found, *parts, name=found["id"])


@command(app, "revoke")
def revoke(
    envelope: Id,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept beside it.")],
    folder: SiteDir = None,
) -> None:
    """Take it back at once, also for what runs now. It needs no key, since it only takes away."""
    if not reason.strip():
        raise InvalidInputError("a revocation needs a reason", code="no-reason", hint="--reason TEXT")
    revoked = ask_site(folder, "envelope_revoke", id=envelope, reason=reason.strip()[:500])
    current().show(revoked, Text.assemble(state(revoked["state"]), f"  {revoked['id']}"), name=revoked["id"])


# -- in words ----------------------------------------------------------------------------------------------------------


def _describe(document: RunEnvelopeDocument) -> list[RenderableType]:
    """What it allows, in words: the last look before the signature."""
    return [
        heading(f"{document.title}, at site {document.site}"),
        Text("Jobs like this are released by themselves, within the policy:"),
        fields(_what_runs(document)),
        Text("What may leave, and for whom:"),
        fields(_what_leaves(document)),
    ]


def _what_runs(document: RunEnvelopeDocument) -> Mapping[str, Cell | None]:
    from insitu.agent.envelope_rules import allowed_text, dataset_text

    locks = document.locks
    return {
        "  code": document.code,
        "  command": document.command,
        **{f"  {name}": allowed_text(allowed) for name, allowed in document.params.items()},
        **{f"  {name}": dataset_text(allowed) for name, allowed in document.datasets.items()},
        "  packages": "any" if locks == "any" else ", ".join(short(lock) for lock in locks),
    }


def _what_leaves(document: RunEnvelopeDocument) -> Mapping[str, Cell | None]:
    from insitu.agent.envelope_rules import output_text

    return {
        "  metrics": ", ".join(document.metrics) or "none",
        **{f"  {name}": output_text(allowed) for name, allowed in document.outputs.items()},
        "  jobs of": ", ".join(document.who),
        "  runs": str(document.runs),
        "  until": f"{document.expires_at:%Y-%m-%d %H:%M} UTC",
    }
