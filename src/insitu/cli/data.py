"""`insitu data …`: datasets, by name and version. A hub knows their schema and a band of rows, never a path or a row."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from insitu.cli import data_text, data_upload, data_versions
from insitu.cli.commands import command, group
from insitu.cli.output import Cell, current, fields, heading, when
from insitu.cli.output import command as command_line
from insitu.cli.session import SiteDir, ask_site, ask_yes, hub, site_folder
from insitu.domain.errors import InvalidInputError
from insitu.domain.quantities import format_bytes

app = group("Datasets: what sites offer, and how a steward adds and publishes one.")
for _name, _function in {**data_versions.COMMANDS, **data_upload.COMMANDS}.items():
    command(app, _name)(_function)

Reference = Annotated[str, typer.Argument(help="name or name@version.", metavar="DATASET")]
AtSite = Annotated[str | None, typer.Option("--site", help="As this site offers it, where several do.")]


class Shape(StrEnum):
    TEXT = "text"
    CROISSANT = "croissant"


@command(app, "add")
def add(
    name: Annotated[str, typer.Argument(help="The dataset's name.", metavar="NAME")],
    *,
    datastore: Annotated[str, typer.Option("--datastore", help="Where its files are; see `insitu datastore list`.")],
    path: Annotated[str, typer.Option("--path", help="Pattern of its objects in the datastore: 'wdbc/*.csv', 'x/**'.")],
    format_: Annotated[
        str, typer.Option("--format", help="What they are: csv, parquet, npy, text, images or files.")
    ] = "csv",
    description: Annotated[str, typer.Option("--description", help="A line for the catalogue.")] = "",
    folder: SiteDir = None,
) -> None:
    """Add objects of a datastore as the next, immutable version of a dataset.

    They are read once, for the gate's index; jobs later read a verified copy at the site.
    """
    out = current()
    with out.progress(f"reading and indexing {name}"):
        added = ask_site(
            folder, "data_add", name=name, datastore=datastore, path=path, format=format_, description=description
        )
    out.show(added, heading(_label(added)), fields(_site_fields(added)), name=_label(added))
    for one in data_text.withheld(added):
        out.note(one)
    out.note("The hub is told its columns' names and types, and a band of its rows. To tell more, or less:")
    out.note(command_line(f"insitu data publish {_label(added)} --dir {site_folder(folder)}"))
    out.note(f"No job may use it before the policy grants it, under `datasets: {{{name}: …}}`.")


@command(app, "list")
def list_(
    *,
    archived: Annotated[bool, typer.Option("--archived", help="At a site: also what was archived.")] = False,
    folder: SiteDir = None,
) -> None:
    """Datasets that a site has (with --dir), or that all sites offer."""
    if folder is not None:
        _list_at_site(ask_site(folder, "data_list", archived=archived))
        return
    with hub() as client:
        found = client.datasets()
    columns = {
        "dataset": lambda one: f"{one.name}@{one.version}",
        "site": lambda one: one.site,
        "rows": lambda one: one.rows,
        "columns": lambda one: str(len(one.columns)),
        "description": lambda one: one.description,
    }
    current().table(
        found, columns, key=lambda one: f"{one.name}@{one.version}", empty="No site offers a dataset to this hub yet."
    )


def _list_at_site(found: list[dict[str, Any]]) -> None:
    columns = {
        "dataset": _label,
        "rows": lambda one: f"{one['rows']} (the hub sees {one['rows_published']})",
        "columns": lambda one: str(len(one["columns"])),
        "size": lambda one: format_bytes(one["size_bytes"]),
        "added": lambda one: when(one["added_at"]),
        "": lambda one: "archived" if one["archived_at"] else "staged" if one.get("staged") else "",
        "description": lambda one: one["description"],
    }
    current().table(found, columns, key=_label, empty="There is no dataset here yet: `insitu data add`.")


@command(app, "show")
def show(
    reference: Reference,
    *,
    site: AtSite = None,
    shape: Annotated[Shape, typer.Option("--format", help="croissant: Croissant 1.1, JSON-LD.")] = Shape.TEXT,
    folder: SiteDir = None,
) -> None:
    """One dataset: what its site tells of it. With --dir also what the hub is not told."""
    name, version = _parse(reference)
    out = current()
    if shape is Shape.CROISSANT:
        with hub() as client:
            out.json(client.croissant(name, version, site=site))
        return
    if folder is not None:
        found = ask_site(folder, "data_show", name=name, version=version)
        shown = [heading(_label(found)), fields(_site_fields(found)), *data_text.at_site(found)]
        out.show(found, *shown, name=_label(found))
        return
    with hub() as client:
        view = client.dataset(name, version, site=site)
    label = f"{view.name}@{view.version}"
    out.show(view, heading(label), *data_text.at_hub(view), name=label)


@command(app, "publish")
def publish(
    reference: Reference,
    *,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            help="What is told of a column: range, quartiles, categories, missing; hidden; or names, for no more.",
            metavar="NAME:WORD,…",
        ),
    ] = None,
    sensitivities: Annotated[
        list[str] | None,
        typer.Option("--sensitivity", help="public, internal, personal or special.", metavar="NAME:WORD"),
    ] = None,
    owner: Annotated[str | None, typer.Option("--owner", help="Who answers for it.")] = None,
    purpose: Annotated[str | None, typer.Option("--purpose", help="What it may be used for.")] = None,
    licence: Annotated[str | None, typer.Option("--licence", help="Under which terms.")] = None,
    minimum_rows: Annotated[
        int | None, typer.Option("--minimum-rows", help="Rows that each summary stands for at least.")
    ] = None,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="From now on names and types alone.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be told, and tell nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    folder: SiteDir = None,
) -> None:
    """Tell the hub of a dataset what its `publish.yaml` says, with these changes. Shows it first, and asks."""
    name, version = _parse(reference)
    given = {"owner": owner, "purpose": purpose, "licence": licence, "minimum_rows": minimum_rows}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    changes["columns"] = data_text.column_changes(columns or [], sensitivities or [])
    out = current()
    asked = {"name": name, "version": version, "changes": changes, "withdraw": withdraw}
    with out.progress(f"reading {reference}"):
        found = ask_site(folder, "data_publish", **asked, apply=False)
    if dry_run:
        out.show({**found, "published": False}, heading(_label(found)), *data_text.would_be_told(found))
        return
    for part in data_text.would_be_told(found):
        out.note(part)
    if not yes and not ask_yes("Tell the hub this?"):
        raise typer.Abort
    with out.progress(f"publishing {reference}"):
        told = ask_site(folder, "data_publish", **{**asked, "version": found["version"]}, apply=True)
    out.show({**told, "published": True}, f"{_label(told)} is published; {told['file']} says how.", name=_label(told))


@command(app, "mock")
def mock(
    reference: Reference,
    *,
    rows: Annotated[int | None, typer.Option("--rows", help="How many; about as many as the dataset has.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Another seed makes another table.")] = 0,
    shape: Annotated[str, typer.Option("--format", help="csv, npy or parquet; by default the dataset's own.")] = "",
    file: Annotated[Path | None, typer.Option("--out", help="A file; without it: standard output.")] = None,
    site: AtSite = None,
) -> None:
    """A made-up table with a dataset's columns: to write and rehearse a job with. It holds nothing of the data."""
    from insitu.sdk.mock import as_bytes, mock_table

    name, version = _parse(reference)
    with hub() as client:
        view = client.dataset(name, version, site=site)
    made = mock_table(view, rows=rows, seed=seed)
    format_ = shape or view.format or "csv"
    data = as_bytes(made, {column.name: column.type for column in view.columns}, format_)
    out, count = current(), len(next(iter(made.values())))
    if file is None:
        if format_ != "csv":
            raise InvalidInputError(f"{format_} is no text", code="mock-format", hint="--out FILE, or --format csv")
        typer.echo(data.decode(), nl=False)
        return
    try:
        file.write_bytes(data)
    except OSError as exc:
        raise InvalidInputError(f"{file} can't be written", code="mock-file", why=exc.strerror or "") from exc
    told = {"file": str(file), "dataset": f"{view.name}@{view.version}", "rows": count, "seed": seed, "format": format_}
    out.show(told, f"{file}: {count} made-up rows of {len(made)} columns, seed {seed}", name=str(file))


def _parse(reference: str) -> tuple[str, int | None]:
    name, mark, version = reference.partition("@")
    if mark and not (version.isdecimal() and 0 < len(version) < 10 and int(version)):
        raise InvalidInputError(
            f"{reference!r} names no version", code="usage", hint=f"e.g. {name}@1, or {name} for the newest"
        )
    return name, int(version) if mark else None


def _label(one: dict[str, Any]) -> str:
    return f"{one['name']}@{one['version']}"


def _site_fields(one: dict[str, Any]) -> dict[str, Cell | None]:
    return {
        "description": one["description"],
        "rows": f"{one['rows']} (the hub sees {one['rows_published']})",
        "from": f"{one['path']} in {one['datastore']}, {one['format']}",
        "objects": f"{one['files']}, {format_bytes(one['size_bytes'])}",
        "tags": ", ".join(f"{key}={value}" for key, value in one["tags"].items()),
        "archived": when(one["archived_at"]),
        "digest": one["digest"],
        "added": when(one["added_at"]),
    }
