"""`insitu agent …`: the process beside the data."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from insitu.cli.commands import command, group
from insitu.cli.output import command as command_text
from insitu.cli.output import current, fields, short
from insitu.cli.session import SiteDir, read_secret, site_folder

if TYPE_CHECKING:
    from insitu.agent.site import Site

app = group("The process beside the data. It dials out, and never listens.")


@command(app, "init")
def init(
    *,
    hub: Annotated[str, typer.Option("--hub", help="Address of the hub that it dials.")],
    base_layout: Annotated[
        Path, typer.Option("--base-layout", help="OCI layout with the base; see `make base-image`.")
    ],
    base: Annotated[str, typer.Option("--base", help="Its digest, when the layout holds several.")] = "",
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="File with the one-time join token; - reads a line of stdin.")
    ] = None,
    sandbox: Annotated[
        str, typer.Option("--sandbox", help="podman, docker or bubblewrap; by default an engine if there is one.")
    ] = "",
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Folder for packages; by default in the site's.")
    ] = None,
    index_url: Annotated[str, typer.Option("--index-url", help="Where packages come from.")] = "",
    serve_host: Annotated[str, typer.Option("--serve-host", help="Address that deployments listen on.")] = "127.0.0.1",
    slots: Annotated[int, typer.Option("--slots", help="Jobs at a time.", min=1, max=256)] = 4,
    folder: SiteDir = None,
) -> None:
    """Make a site's folder and keys, write a policy that lets nothing out, and join a hub."""
    from pydantic import ValidationError

    from insitu.agent.init import init_site
    from insitu.agent.settings import AgentSettings
    from insitu.wire.names import explain

    root = site_folder(folder)
    token = read_secret(token_file, variable="INSITU_JOIN_TOKEN", what="Join token")
    given = {
        "hub": hub.rstrip("/"),
        "ca_file": os.environ.get("SSL_CERT_FILE") or None,
        "sandbox": sandbox or None,
        "base": base or None,
        "base_layout": str(base_layout.absolute()),
        "cache": str(cache.absolute()) if cache else "",
        "index_url": index_url or None,
        "serve_host": serve_host,
        "slots": slots,
    }
    try:
        settings = AgentSettings.model_validate(given)
    except ValidationError as exc:
        raise explain(exc, AgentSettings, what="command", code="agent-settings") from exc
    out = current()
    with out.progress("unpacking the base and joining"):
        joined = init_site(root, settings, token)
    found = {"site": joined.site, "dir": str(root), "fingerprint": joined.fingerprint, "base": joined.base}
    out.show(found, fields({**found, "base": short(joined.base)}), name=joined.site)
    out.note(Text(f"Nothing runs and nothing leaves before {root / 'policy.yaml'} says so. Then:", style="dim"))
    out.note(command_text(f"insitu policy check {root / 'policy.yaml'}"))
    out.note(command_text(f"insitu agent start --dir {root}"))


@command(app, "start")
def start(
    *,
    log_level: Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")] = "warning",
    folder: SiteDir = None,
) -> None:
    """Run the agent until it is told to stop (Ctrl-C, SIGTERM). What runs at the site goes on."""
    from insitu.agent.main import run_agent, set_up_logging, take_store_environment

    set_up_logging(log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    run_agent(site_folder(folder), stop, ready=_say_ready, environment=take_store_environment())


def _say_ready(site: Site) -> None:
    out = current()
    found = {"ready": True, "site": site.settings.site, "sandbox": site.sandbox.name, "pid": os.getpid()}
    if out.as_json:
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()
        return
    out.out.print(Text.assemble(("The agent of ", "bold"), (site.settings.site, "bold green"), (" is at work", "bold")))
    out.note(Text(f"jobs run in {site.sandbox.name}; hub {site.settings.hub}", style="dim"))
    if site.policy.error is not None:
        out.note(Text(f"! no readable policy, so nothing runs: {site.policy.error.what}", style="yellow"))


@command(app, "doctor")
def doctor(*, folder: SiteDir = None) -> None:
    """Check what a site needs: sandboxes and their limits, keys, policy, base, disk, clock, hub."""
    from insitu.cli.agent_doctor import checks
    from insitu.cli.doctor import show_checks

    with current().progress("trying the sandboxes"):
        found = list(checks(site_folder(folder) if folder else None))
    show_checks(found, current())
