"""`insitu site …`: places with data, as the hub knows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer
from rich.text import Text

from insitu.cli.commands import command, group
from insitu.cli.output import current, fields, heading, short, state, when
from insitu.cli.session import hub
from insitu.domain.errors import InvalidInputError
from insitu.domain.quantities import format_bytes
from insitu.wire.people import NewSite, SiteView

app = group("Sites of a hub.")

Name = Annotated[str, typer.Argument(help="The site's name.", metavar="NAME")]


@command(app, "create")
def create(
    name: Name,
    *,
    label: Annotated[
        list[str] | None, typer.Option("--label", help="key=value, for `compute: {labels: …}`.", metavar="K=V")
    ] = None,
) -> None:
    """Name a site, and get the one-time token with which its agent joins."""
    with hub() as client:
        _show_token(client.create_site(name, _labels(label or [])), client.hub)


@command(app, "join-token")
def join_token(name: Name) -> None:
    """A new one-time token for a site whose agent has not joined yet."""
    with hub() as client:
        _show_token(client.new_join_token(name), client.hub)


def _show_token(made: NewSite, address: str) -> None:
    out = current()
    out.show(made, Text(made.join_token), name=made.join_token)
    out.note(
        Text(
            f"It is shown this once, joins one agent, and expires {when(made.join_expires_at)}. At the site:\n"
            f"  insitu agent init --dir DIR --hub {address} --base-layout LAYOUT --token-file -",
            style="dim",
        )
    )


def _labels(given: list[str]) -> Mapping[str, str]:
    labels = {}
    for text in given:
        key, mark, value = text.partition("=")
        if not mark or not key:
            raise InvalidInputError(f"--label {text!r} is not key=value", code="label")
        labels[key] = value
    return labels


@command(app, "list")
def list_() -> None:
    """All sites."""
    with hub() as client:
        found = client.sites()
    columns = {
        "site": lambda site: site.name,
        "link": lambda site: state(site.link),
        "seen": lambda site: when(site.last_seen_at),
        "sandbox": lambda site: site.sandbox,
        "running": lambda site: f"{site.running} of {site.slots}",
        "policy": lambda site: f"v{site.policy_version}" if site.policy_version else "none readable",
        "alarm": lambda site: Text(site.alarm, style="red"),
    }
    current().table(
        found, columns, key=lambda site: site.name, empty="There are no sites yet: `insitu site create NAME`."
    )


@command(app, "show")
def show(name: Name) -> None:
    """One site: its link, room, policy version, bases and ledger."""
    with hub() as client:
        site = client.site(name)
        offered = [f"{one.name}@{one.version} ({one.rows} rows)" for one in client.datasets() if one.site == name]
    current().show(site, heading(site.name), fields(_fields(site, offered)), name=site.name)


def _fields(site: SiteView, offered: list[str]) -> dict[str, str | Text | None]:
    return {
        "link": state(site.link),
        "last seen": when(site.last_seen_at),
        "alarm": Text(site.alarm, style="red") if site.alarm else None,
        "labels": ", ".join(f"{key}={value}" for key, value in site.labels.items()),
        "agent": site.agent_version,
        "sandbox": site.sandbox,
        "policy": f"version {site.policy_version}" if site.policy_version else "none readable: nothing runs",
        "room": f"{site.cpus:g} processors, {format_bytes(site.memory_bytes)}, {site.running} of {site.slots} running",
        "bases": ", ".join(f"{short(base.digest)} (Python {base.python}, {base.platform})" for base in site.bases),
        "ledger": f"{site.ledger_entries} entries, countersigned",
        "datasets": ", ".join(offered),
    }
