"""Who speaks to what: the hub as the person who logged in here, the site whose folder is here.

The only place of the command line that reads the environment for addresses and
folders. A steward's commands go to the running agent through its socket; where no
agent runs, those that need none work on the folder itself, under the agent's lock.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from insitu.domain.errors import InvalidInputError, UnreachableError

if TYPE_CHECKING:
    from insitu.sdk.client import Client
    from insitu.sdk.config import UserFolders

SiteDir = Annotated[
    Path | None,
    typer.Option("--dir", envvar="INSITU_SITE_DIR", help="The site's folder.", show_default=False),
]

WITHOUT_AGENT = frozenset(
    {
        *("datastore_add", "datastore_list", "datastore_show", "datastore_check", "ledger_show"),
        *("data_add", "data_list", "data_show", "data_tag", "data_archive", "data_uses", "data_delete"),
        *("policy_show", "policy_test", "meter_show"),
        *("envelope_terms", "envelope_draft", "envelope_add", "envelope_list", "envelope_show", "envelope_revoke"),
    }
)
"""Calls that need no agent: they read, or write what an agent reads when it starts."""


@contextmanager
def hub() -> Iterator[Client]:
    """The hub, as the person who logged in here."""
    from insitu.sdk.client import Client

    with Client.from_env() as client:
        yield client


def user_folders() -> UserFolders:
    from insitu.sdk.config import UserFolders

    return UserFolders.from_environment(dict(os.environ))


def site_folder(given: Path | None) -> Path:
    """The site's folder that was named.

    Raises:
        InvalidInputError: none was.
    """
    if given is None:
        raise InvalidInputError(
            "it is not said which site",
            code="no-site-dir",
            why="this is a steward's command, and works at the site",
            hint="--dir DIR, or INSITU_SITE_DIR=DIR for all that follows",
        )
    return given.absolute()


def ask_site(given: Path | None, call: str, **arguments: Any) -> Any:
    """Ask the agent of a site, or do it on the folder when no agent runs and none is needed.

    Raises:
        UnreachableError: no agent runs, and this needs one.
        InsituError: what the site answered.
    """
    from insitu.agent.console import ask, call_console
    from insitu.agent.folder import SiteFolder

    folder = SiteFolder(site_folder(given))
    folder.check_is_site()
    try:
        return call_console(folder.console, call, **arguments)
    except UnreachableError:
        if call not in WITHOUT_AGENT:
            raise
    from insitu.cli.offline_site import offline_steward

    with offline_steward(folder) as steward:
        return ask(steward, call, arguments)


def read_secret(file: Path | None, *, variable: str, what: str) -> str:
    """A secret from a file, stdin (`-`, or a pipe), an environment variable, or a prompt. Never from arguments.

    Raises:
        InvalidInputError: there is none, or the file can't be read.
    """
    if file is not None and str(file) != "-":
        try:
            text = file.read_text()
        except OSError as exc:
            raise InvalidInputError(f"{file} can't be read", code="secret-file", why=exc.strerror or "") from exc
    elif file is None and os.environ.get(variable):
        text = os.environ[variable]
    elif file is None and sys.stdin.isatty():
        text = typer.prompt(what, hide_input=True, err=True)
    else:
        text = sys.stdin.readline()
    if not text.strip():
        raise InvalidInputError(
            f"no {what.lower()} was given",
            code="no-secret",
            hint=f"--token-file FILE, a line on stdin, or the variable {variable}",
        )
    return text.strip()


def ask_yes(question: str) -> bool:
    """Whether a person at a terminal says yes; without one there is nobody to ask, and the command line said it all."""
    return typer.confirm(question, default=False, err=True) if sys.stdin.isatty() and sys.stderr.isatty() else True
