"""`insitu data tag|archive|delete`: what a steward does with a version that is there. All of it stays at the site."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from insitu.cli.output import current, fields, heading, table
from insitu.cli.session import SiteDir, ask_site, ask_yes
from insitu.domain.errors import InvalidInputError

Version = Annotated[str, typer.Argument(help="name@version.", metavar="NAME@VERSION")]


def split_version(reference: str) -> tuple[str, int]:
    """Name and number of a version that has to be named exactly.

    Raises:
        InvalidInputError: the number is missing.
    """
    name, _, number = reference.partition("@")
    if not number.isdecimal():
        raise InvalidInputError(
            f"{reference} names no version",
            code="data-version",
            hint=f"e.g. {name or 'wdbc'}@1; see `insitu data list`",
        )
    return name, int(number)


def tag(
    reference: Version,
    tags: Annotated[list[str], typer.Argument(help="key=value; `key=` takes a tag away.", metavar="TAG...")],
    *,
    folder: SiteDir = None,
) -> None:
    """Put tags on a version. They are for the site's own order and stay there."""
    name, version = split_version(reference)
    pairs = [one.partition("=") for one in tags]
    if not all(key and equals for key, equals, _ in pairs):
        raise InvalidInputError("a tag is key=value", code="data-tag", hint="e.g. quality=checked")
    given = {key: value or None for key, _, value in pairs}
    after = ask_site(folder, "data_tag", name=name, version=version, tags=given)
    current().show(after, heading(reference), fields(dict(after["tags"])), name=reference)


def archive(
    reference: Version,
    *,
    undo: Annotated[bool, typer.Option("--undo", help="Offer it again.")] = False,
    folder: SiteDir = None,
) -> None:
    """Offer a version to nobody any more. What was made of it, its index and its past stay."""
    name, version = split_version(reference)
    after = ask_site(folder, "data_archive", name=name, version=version, undo=undo)
    said = f"{reference} is {'offered again' if undo else 'archived: no new job may use it'}"
    current().show(after, said, name=reference)


def delete(
    reference: Version,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete it though jobs have used it.")] = False,
    folder: SiteDir = None,
) -> None:
    """Forget a version at this site: index, manifest, cached bytes. What lies in the datastore stays.

    Jobs that it was given to, and what left the site of them, are listed first.
    """
    out = current()
    name, version = split_version(reference)
    uses = ask_site(folder, "data_uses", name=name, version=version)
    jobs: list[dict[str, Any]] = uses["jobs"]
    if jobs and not out.as_json and not out.quiet:
        out.err.print(heading(f"{reference} was given to {len(jobs)} jobs:"))
        columns = {
            "job": lambda one: one["job"],
            "left the site": lambda one: ", ".join(one["released"]) or "nothing",
            "": lambda one: "waits for a verdict" if one["waits_for_review"] else "",
        }
        out.err.print(table(jobs, columns))
    sure = yes
    if jobs and not yes and not out.as_json:
        # Without a person to ask, only --yes says so.
        import sys

        sure = sys.stdin.isatty() and ask_yes(f"Delete {reference} all the same?")
    deleted = ask_site(folder, "data_delete", name=name, version=version, sure=sure)
    out.show(deleted, f"{reference} is deleted. Its number is not given again.", name=reference)


COMMANDS = {"tag": tag, "archive": archive, "delete": delete}
