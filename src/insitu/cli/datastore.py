"""`insitu datastore …`: where bytes are at a site. The hub never hears of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from insitu.cli.commands import command, group
from insitu.cli.output import current, fields, heading, hint, state, table
from insitu.cli.session import SiteDir, ask_site
from insitu.domain.errors import InvalidInputError

app = group("Where bytes are at a site. The hub never hears of it.")

Name = Annotated[str, typer.Argument(help="The datastore's name.", metavar="NAME")]


@command(app, "add")
def add(
    name: Annotated[str, typer.Argument(help="A name for it.", metavar="NAME")],
    url: Annotated[str, typer.Argument(help="az://container, s3://bucket, or an absolute folder.", metavar="URL")],
    *,
    endpoint: Annotated[str, typer.Option("--endpoint", help="https://… of the store; any host.")] = "",
    account: Annotated[
        str, typer.Option("--account", help="Azure's storage account, where the endpoint does not say it.")
    ] = "",
    region: Annotated[str, typer.Option("--region", help="S3's region.")] = "",
    api_version: Annotated[
        str, typer.Option("--api-version", help="Azure's service version, for endpoints of old ones: 2019-02-02.")
    ] = "",
    credentials_file: Annotated[
        Path | None,
        typer.Option(
            "--credentials-file", help="Read once, and kept at the site (mode 0600). `-`: stdin.", show_default=False
        ),
    ] = None,
    credentials: Annotated[
        str,
        typer.Option("--credentials", help="environment (of the agent), managed-identity or none (a public one)."),
    ] = "",
    replace: Annotated[bool, typer.Option("--replace", help="The name is taken: give it this meaning.")] = False,
    folder: SiteDir = None,
) -> None:
    """Name a store of bytes: Azure Blob or S3 at any endpoint, or a folder. Nothing is asked of it yet.

    A credentials file holds lines like `account_key: …`, `sas_token: …`, or `access_key_id: …` and
    `secret_access_key: …`; the names that Azure's and Amazon's own tools give them in the environment do as well.
    """
    if credentials_file is not None and credentials:
        raise InvalidInputError(
            "--credentials-file and --credentials are one too many", code="datastore-credentials", hint="give one"
        )
    added = ask_site(
        folder,
        "datastore_add",
        name=name,
        url=url,
        endpoint=endpoint,
        account=account,
        region=region,
        api_version=api_version,
        credentials=credentials,
        secret=_read(credentials_file) if credentials_file else "",
        replace=replace,
    )
    out = current()
    out.show(added, fields({key: str(value) for key, value in added.items()}), name=name)
    if added["kind"] != "folder":
        out.note(f"Whether it can be read: `insitu datastore check {name}`")


@command(app, "list")
def list_(*, folder: SiteDir = None) -> None:
    """The site's datastores."""
    columns = {
        "datastore": lambda one: one["name"],
        "kind": lambda one: one["kind"],
        "where": lambda one: one["url"],
        "endpoint": lambda one: one.get("endpoint", ""),
        "credentials": lambda one: one.get("credentials", ""),
    }
    found = ask_site(folder, "datastore_list")
    current().table(found, columns, key=lambda one: one["name"], empty="There is none yet: `insitu datastore add`.")


@command(app, "show")
def show(name: Name, *, folder: SiteDir = None) -> None:
    """One datastore, and the datasets that lie in it."""
    found = ask_site(folder, "datastore_show", name=name)
    shown = {key: ", ".join(value) if isinstance(value, list) else str(value) for key, value in found.items()}
    current().show(
        found, heading(name), fields({key: value for key, value in shown.items() if key != "name"}), name=name
    )


@command(app, "check")
def check(name: Name, *, folder: SiteDir = None) -> None:
    """Try it step by step: reach, login, list, read. Says which fails, and why."""
    out = current()
    with out.progress(f"trying {name}"):
        found = ask_site(folder, "datastore_check", name=name)
    columns = {
        "step": lambda step: step["step"],
        "": lambda step: state(step["state"]),
        "what": lambda step: step.get("what", ""),
        "why": lambda step: step.get("why", ""),
    }
    parts: list[Any] = [heading(f"{name} at {found.get('endpoint') or found['url']}"), table(found["steps"], columns)]
    parts += [hint(step["hint"]) for step in found["steps"] if step.get("hint")]
    out.show(found, *parts, name=found["state"])
    if found["state"] != "ok":
        raise typer.Exit(1)


def _read(file: Path) -> str:
    """The text of a credentials file.

    Raises:
        InvalidInputError: it can't be read, or is empty.
    """
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInputError(f"{file} can't be read", code="secret-file") from exc
    if not text.strip():
        raise InvalidInputError(f"{file} is empty", code="no-secret")
    return text
