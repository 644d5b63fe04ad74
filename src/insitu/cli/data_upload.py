"""`insitu data upload`: local files into the site's own store, by whoever may read the site's folder. Not through the hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from insitu.cli.output import Output, current, fields
from insitu.cli.session import SiteDir, site_folder
from insitu.domain.quantities import format_bytes


def upload(
    names: Annotated[list[Path], typer.Argument(help="Files and folders here.", metavar="NAME...", show_default=False)],
    *,
    datastore: Annotated[str, typer.Option("--datastore", help="Where they go; see `insitu datastore list`.")],
    to: Annotated[str, typer.Option("--to", help="Prefix of their names in the datastore, e.g. wdbc/2026.")] = "",
    folder: SiteDir = None,
) -> None:
    """Move local files into a datastore of the site. Run it again to go on with what is missing.

    Names below a folder keep their place in it. The bytes go straight from here to the store; neither the hub nor the
    agent sees them.
    """
    from insitu.agent.datastores import open_datastore
    from insitu.agent.folder import SiteFolder
    from insitu.agent.stores.credentials import store_environment
    from insitu.agent.upload import local_files
    from insitu.agent.upload import upload as send

    site = SiteFolder(site_folder(folder))
    site.check_is_site()
    files = local_files(names, to)
    out = current()
    store = open_datastore(site, datastore, store_environment(os.environ))
    try:
        with _bar(out, sum(one.size_bytes for one in files)) as advance:
            done = send(store, files, progress=advance)
    finally:
        store.close()
    value = {"datastore": datastore, "to": to, **asdict(done)}
    shown = {
        "sent": f"{done.sent} files, {format_bytes(done.sent_bytes)}",
        "there already": f"{done.already_there} files" if done.already_there else "",
    }
    out.show(value, fields(shown), name=datastore)
    out.note(
        f"Make a dataset of them: `insitu data add NAME --datastore {datastore} --path '{to.strip('/') or '*'}/**'`"
    )


@contextmanager
def _bar(out: Output, size_bytes: int) -> Iterator[Callable[[int], None]]:
    """A bar with bytes and the time that is left, on a terminal."""
    if out.as_json or out.quiet or not out.err.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("uploading"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out.err, transient=True) as progress:
        task = progress.add_task("uploading", total=size_bytes)
        yield lambda more: progress.advance(task, more)


COMMANDS = {"upload": upload}
