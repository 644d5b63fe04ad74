"""`insitu deployment …`: what sites should serve, and what they do."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from insitu.cli.commands import command, group
from insitu.cli.job_text import reason
from insitu.cli.output import Cell, current, fields, heading, short, state, when
from insitu.cli.session import ask_yes, hub
from insitu.wire.people import DeploymentView

app = group("What sites should serve, and what they do.")

Name = Annotated[str, typer.Argument(help="The deployment's name.", metavar="NAME")]


@command(app, "list")
def list_(
    *, deleted: Annotated[bool, typer.Option("--deleted", help="Also those that should be no more.")] = False
) -> None:
    """Deployments at all sites."""
    with hub() as client:
        found = client.deployments(deleted=deleted)
    columns = {
        "deployment": lambda one: one.name,
        "site": lambda one: one.site,
        "state": _state,
        "model": lambda one: f"{one.model}:{one.version}",
        "revision": lambda one: str(one.revision),
        "url": lambda one: one.url,
        "since": lambda one: when(one.created_at),
    }
    current().table(found, columns, key=lambda one: one.name, empty="Nothing is deployed: `insitu deploy MODEL`.")


@command(app, "show")
def show(name: Name) -> None:
    """One deployment: its state, address and revision."""
    with hub() as client:
        found = client.deployment(name)
    show_deployment(found)


@command(app, "delete")
def delete(
    name: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait until the site says that nothing of it is left.")] = True,
) -> None:
    """Let it be no more. The site stops it, and says when it is gone."""
    out = current()
    if not yes and not ask_yes(f"Stop serving {name}?"):
        raise typer.Abort
    with hub() as client:
        found = client.delete_deployment(name)
        if wait and found.state != "gone":
            with out.progress(f"waiting until {name} is gone"):
                found = client.wait_deployment(name, until=("gone",))
    show_deployment(found)


def show_deployment(one: DeploymentView) -> None:
    """Print a deployment."""
    facts: dict[str, Cell | None] = {
        "state": _state(one),
        "url": one.url,
        "site": one.site,
        "model": f"{one.model}:{one.version}",
        "image": short(one.image),
        "revision": str(one.revision),
        "signed by": one.submitter,
        "since": when(one.created_at),
    }
    current().show(one, heading(one.name), fields(facts), *reason(one.reason), name=one.url or one.name)


def _state(one: DeploymentView) -> Text:
    shown = state(one.state)
    if one.deleted and one.state != "gone":
        shown = Text.assemble(shown, ("  deleted", "dim"))
    return Text.assemble(shown, "  ", state(one.link)) if one.link else shown
