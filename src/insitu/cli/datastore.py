"""`insitu datastore …`: where bytes are at a site. The hub never hears of them."""

from __future__ import annotations

from typing import Annotated

import typer

from insitu.cli.commands import command, group
from insitu.cli.output import current, fields
from insitu.cli.session import SiteDir, ask_site

app = group("Where bytes are at a site. The hub never hears of it.")


@command(app, "add")
def add(
    name: Annotated[str, typer.Argument(help="A name for it.", metavar="NAME")],
    url: Annotated[str, typer.Argument(help="An absolute path, or file:///…", metavar="URL")],
    *,
    folder: SiteDir = None,
) -> None:
    """Name a folder of this machine as a datastore."""
    added = ask_site(folder, "datastore_add", name=name, url=url)
    current().show(added, fields({key: str(value) for key, value in added.items()}), name=name)


@command(app, "list")
def list_(*, folder: SiteDir = None) -> None:
    """The site's datastores."""
    columns = {
        "datastore": lambda one: one["name"],
        "kind": lambda one: one["kind"],
        "where": lambda one: one["folder"],
    }
    found = ask_site(folder, "datastore_list")
    current().table(found, columns, key=lambda one: one["name"], empty="There is none yet: `insitu datastore add`.")
