"""`insitu data …`: datasets, by name and version. A hub knows their schema and a band of rows, never a path or a row."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from insitu.cli import data_upload, data_versions
from insitu.cli.commands import command, group
from insitu.cli.output import Cell, current, fields, heading, short, table, when
from insitu.cli.session import SiteDir, ask_site, hub
from insitu.domain.errors import NotFoundError
from insitu.domain.quantities import format_bytes
from insitu.wire.people import DatasetView

app = group("Datasets: what sites offer, and how a steward adds one.")
for _name, _function in {**data_versions.COMMANDS, **data_upload.COMMANDS}.items():
    command(app, _name)(_function)


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
    reference: Annotated[str, typer.Argument(help="name or name@version.", metavar="DATASET")],
    *,
    folder: SiteDir = None,
) -> None:
    """One dataset: its columns, and how many rows it says that it has."""
    name, _, version = reference.partition("@")
    wanted = int(version) if version.isdecimal() else None
    if folder is not None:
        found = ask_site(folder, "data_show", name=name, version=wanted)
        columns = found["columns"]
        shown = fields(_site_fields(found))
        label, value = _label(found), found
    else:
        view = _at_hub(name, wanted)
        columns = [{"name": column.name, "type": column.type} for column in view.columns]
        shown = fields(_hub_fields(view))
        label, value = f"{view.name}@{view.version}", view
    names = table(columns, {"column": lambda one: one["name"], "type": lambda one: one["type"]})
    current().show(value, heading(label), shown, "", names, name=label)


def _at_hub(name: str, version: int | None) -> DatasetView:
    with hub() as client:
        known = [one for one in client.datasets() if one.name == name and version in (None, one.version)]
    if not known:
        raise NotFoundError(f"no site offers a dataset {name!r}", code="no-dataset", hint="see `insitu data list`")
    return max(known, key=lambda one: one.version)


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


def _hub_fields(one: DatasetView) -> dict[str, Cell | None]:
    return {
        "description": one.description,
        "site": one.site,
        "rows": one.rows,
        "digest": short(one.digest),
        "": "No rows are shown or stored here.",
    }
