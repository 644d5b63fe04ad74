"""`insitu model …`: registered models, where each version came from, and what it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from insitu.cli.commands import command, group
from insitu.cli.output import Cell, current, fields, heading, printable, short, when
from insitu.cli.session import hub
from insitu.domain.digests import digest_of_file
from insitu.domain.errors import IntegrityError, InvalidInputError, NotFoundError
from insitu.domain.quantities import format_bytes
from insitu.wire.people import ModelVersionView
from insitu.wire.releases import ReleaseDocument, open_release

app = group("Registered models.")

Reference = Annotated[str, typer.Argument(help="name, name:3 or name@champion.", metavar="MODEL")]


@command(app, "list")
def list_(
    name: Annotated[str, typer.Argument(help="All versions of this model.", metavar="[NAME]")] = "",
) -> None:
    """The latest version of each model, or all versions of one."""
    with hub() as client:
        found = client.model_versions(name) if name else client.models()
    columns = {
        "model": _label,
        "aliases": lambda one: ", ".join(one.aliases),
        "from job": lambda one: one.job_id,
        "site": lambda one: f"{one.site} (resident)" if one.resident else one.site,
        "size": lambda one: format_bytes(one.size_bytes),
        "digest": lambda one: short(one.digest),
        "registered": lambda one: when(one.created_at),
    }
    current().table(found, columns, key=_label, empty="No model has been released and registered yet.")


@command(app, "show")
def show(reference: Reference) -> None:
    """One version, with its lineage: job, code, data, packages, policy, ledger entry."""
    with hub() as client:
        found = client.model(reference)
    _show(found)


@command(app, "statement")
def statement(
    reference: Reference,
    *,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="A file for it; without: it is shown.")] = None,
    files: Annotated[
        Path | None, typer.Option("--files", help="A folder with the model's files, to check against it.")
    ] = None,
) -> None:
    """What the site signed when it let this version out: an in-toto statement in a DSSE envelope.

    With --files each file in the folder is checked to be one that was let out, and none to be missing.
    """
    with hub() as client:
        found = client.model(reference)
        if found.resident:
            raise NotFoundError(
                f"{reference} never left {found.resident}, so there is no statement of a release",
                code="resident",
                rule="resident",
                hint="`insitu model show` has what its card says",
            )
        envelope = client.model_statement(found.name, found.version)
    release = open_release(envelope, site_key=envelope.signatures[0].keyid)
    if files is not None:
        _check_files(files, release.document)
    if out is not None:
        out.write_text(envelope.model_dump_json() + "\n")
    document = release.document
    shown: dict[str, Cell | None] = {
        "signed by": f"{envelope.signatures[0].keyid} (compare it with the site's key)",
        "job": document.job_id,
        "rule": document.rule,
        "reviewer": document.reviewer or None,
        "policy version": str(document.policy_version),
        "ledger entry": str(document.entry),
        "released": when(document.released_at),
        "digest": document.digest,
        "files": ", ".join(file.path for file in document.files),
        "checked": str(files) if files else None,
        "written to": str(out) if out else None,
    }
    current().show(envelope, heading(f"{found.name} version {found.version}"), fields(shown), name=document.digest)


def _check_files(folder: Path, document: ReleaseDocument) -> None:
    wanted = {file.path: file.digest for file in document.files}
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    wrong = sorted(
        name
        for name in wanted.keys() | there.keys()
        if name not in there or digest_of_file(there[name]) != wanted.get(name)
    )
    if wrong:
        raise IntegrityError(
            f"{folder} is not what was released",
            code="release-statement",
            rule="release-statement",
            measure=", ".join(printable(name) for name in wrong)[:300],
            limit=f"the {len(wanted)} files that the site signed for",
            hint="fetch them from the hub again",
        )


@command(app, "tag")
def tag(
    reference: Reference,
    tags: Annotated[list[str], typer.Argument(help="key=value", metavar="KEY=VALUE...")],
) -> None:
    """Tag a version. Lineage (`insitu.…`) can't be changed."""
    pairs = [text.partition("=") for text in tags]
    if any(not mark for _, mark, _ in pairs):
        raise InvalidInputError("a tag is key=value", code="tag", hint="e.g. `insitu model tag NAME:1 stage=trial`")
    with hub() as client:
        found = client.model(reference)
        for key, _, value in pairs:
            found = client.tag_model(found.name, found.version, key, value)
    _show(found)


@command(app, "alias")
def alias(
    name: Annotated[str, typer.Argument(help="The model.", metavar="NAME")],
    alias_: Annotated[str, typer.Argument(help="e.g. champion", metavar="ALIAS")],
    version: Annotated[int, typer.Argument(help="The version that it shall mean.", metavar="VERSION", min=1)],
) -> None:
    """Let an alias mean a version; it means one at a time."""
    with hub() as client:
        found = client.alias_model(name, alias_, version)
    _show(found)


def _show(found: ModelVersionView) -> None:
    lineage: dict[str, Cell | None] = {
        key.removeprefix("insitu.").replace("_", " "): printable(value)
        for key, value in sorted(found.tags.items())
        if key.startswith("insitu.")
    }
    own = ", ".join(f"{key}={value}" for key, value in found.tags.items() if not key.startswith(("insitu.", "mlflow.")))
    facts: dict[str, Cell | None] = {
        "use": f"at {found.resident} only; its files never left" if found.resident else "",
        "aliases": ", ".join(found.aliases),
        "tags": own,
        "digest": found.digest,
        "size": format_bytes(found.size_bytes),
        "job": found.job_id,
        "run": found.run_id,
        "registered": when(found.created_at),
    }
    current().show(found, heading(_label(found)), fields(facts | lineage), name=_label(found))


def _label(one: ModelVersionView) -> str:
    return f"{one.name}:{one.version}"
