"""`insitu hub …`: the control plane process, and the tokens that it knows people by."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer
from rich.text import Text

from insitu.cli.commands import command, group
from insitu.cli.output import current, state, when
from insitu.cli.session import hub
from insitu.domain.errors import InvalidInputError, NotFoundError
from insitu.wire.people import Role, TokenView

if TYPE_CHECKING:
    from insitu.hub.main import Ready
    from insitu.hub.settings import HubSettings

app = group("The hub.")
token = group("Tokens: who may do what at the hub.")
app.add_typer(token, name="token")

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        envvar="INSITU_HUB_DATA",
        help="The hub's data folder; without it the hub is asked.",
        show_default=False,
    ),
]


@command(app, "start")
def start(
    *,
    data: Annotated[
        Path, typer.Option("--data", envvar="INSITU_HUB_DATA", help="Folder of everything it keeps.")
    ] = Path("insitu-hub"),
    host: Annotated[str, typer.Option("--host")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="0 takes one that is free.", min=0, max=65535)] = 7400,
    public_url: Annotated[str, typer.Option("--public-url", help="How people and agents reach it.")] = "",
    database: Annotated[
        str, typer.Option("--database", help="PostgreSQL URL; with a password: in INSITU_HUB_DATABASE_URL.")
    ] = "",
    registry: Annotated[
        str, typer.Option("--registry", help="Where images are pushed: http(s)://host:port/prefix")
    ] = "",
    registry_auth: Annotated[
        Path | None, typer.Option("--registry-auth", help="File with user:password, mode 0600.")
    ] = None,
    base_layout: Annotated[Path | None, typer.Option("--base-layout", help="OCI layout that holds the bases.")] = None,
    cache: Annotated[Path | None, typer.Option("--cache", help="Folder for packages; by default in the hub's.")] = None,
    wheel_store: Annotated[
        Path | None, typer.Option("--wheel-store", help="Folder of wheels by hash; by default in the hub's.")
    ] = None,
    index_url: Annotated[
        str,
        typer.Option(
            "--index-url",
            help="Where packages come from; with a password: in INSITU_HUB_INDEX_URL.",
            show_default=False,
        ),
    ] = "",
    package_hosts: Annotated[
        list[str] | None,
        typer.Option("--package-host", help="A host beside PyPI's that locks may name.", metavar="HOST"),
    ] = None,
    tls_certificate: Annotated[Path | None, typer.Option("--tls-certificate", help="PEM, with its chain.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="PEM, mode 0600.")] = None,
    log_level: Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")] = "warning",
) -> None:
    """Run a hub until it is told to stop (Ctrl-C, SIGTERM). With --json it says in one line when it answers."""
    from insitu.hub.main import serve
    from insitu.hub.settings import HubSettings

    settings = HubSettings(
        data=data.absolute(),
        database_url=_without_password(
            database, "--database", "INSITU_HUB_DATABASE_URL", or_else=", or the password into ~/.pgpass"
        ),
        host=host,
        port=port,
        public_url=public_url,
        registry=registry,
        registry_auth=registry_auth,
        base_layout=base_layout.absolute() if base_layout else None,
        cache=cache.absolute() if cache else None,
        wheel_store=wheel_store.absolute() if wheel_store else None,
        index_url=_without_password(index_url, "--index-url", "INSITU_HUB_INDEX_URL"),
        package_hosts=tuple(package_hosts or ()),
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        log_level=log_level,
    )
    serve(settings, on_ready=_say_ready)


def _without_password(given: str, option: str, variable: str, *, or_else: str = "") -> str:
    """What was given, or the environment's.

    Raises:
        InvalidInputError: an argument holds a password, which every user of this machine could read.
    """
    if given and urlsplit(given).password:
        raise InvalidInputError(
            f"{option} holds a password, and arguments can be read by everybody on this machine",
            code="secret-in-argument",
            hint=f"put the URL into {variable}{or_else}",
        )
    return given or os.environ.get(variable, "")


def _say_ready(ready: Ready) -> None:
    out = current()
    if out.as_json:
        sys.stdout.write(json.dumps({"ready": True, **ready.__dict__}) + "\n")
        sys.stdout.flush()
        return
    out.out.print(Text.assemble(("The hub answers at ", "bold"), (ready.url, "bold green")))
    out.note(Text(f"MLflow: {ready.url}/mlflow   the admin's token: {ready.admin_token_file}", style="dim"))


@command(token, "create")
def create(
    name: Annotated[str, typer.Argument(help="Whose it is.", metavar="NAME")],
    *,
    role: Annotated[Role, typer.Option("--role", help="What they may do.")],
    days: Annotated[int, typer.Option("--days", help="How long it is good for.", min=1, max=3650)] = 90,
    data: Data = None,
) -> None:
    """Make a token; it is shown this once. Works on the data folder, or at the hub for an admin."""
    if data is not None:
        from insitu.hub.opening import create_token

        made = create_token(_settings(data), name, role, days=days)
    else:
        with hub() as client:
            made = client.create_token(name, role, days=days)
    out = current()
    out.show(made, Text(made.token), name=made.token)
    out.note(Text(f"{made.name}, {made.role.value}, expires {when(made.expires_at)}; shown this once", style="dim"))


@command(token, "list")
def list_(*, data: Data = None) -> None:
    """Tokens, without their secret part."""
    if data is not None:
        found = _read_tokens(data)
    else:
        with hub() as client:
            found = client.tokens()
    columns = {
        "token": lambda one: one.id,
        "name": lambda one: one.name,
        "role": lambda one: one.role.value,
        "state": _state,
        "expires": lambda one: when(one.expires_at),
        "last used": lambda one: when(one.last_used_at),
    }
    current().table(found, columns, key=lambda one: one.id, empty="There are no tokens.")


@command(token, "revoke")
def revoke(
    token_id: Annotated[str, typer.Argument(help="Its id, as `insitu hub token list` prints it.", metavar="TOKEN-ID")],
    *,
    data: Data = None,
) -> None:
    """Let a token be good no more, at once."""
    if data is not None:
        _revoke(data, token_id)
    else:
        with hub() as client:
            client.revoke_token(token_id)
    current().show({"id": token_id, "revoked": True}, Text(f"{token_id} is revoked"), name=token_id)


def _state(one: TokenView) -> Text:
    return state("ok") if one.revoked_at is None else Text("revoked", style="dim")


def _settings(data: Path) -> HubSettings:
    from insitu.hub.settings import HubSettings

    return HubSettings(data=data.absolute(), database_url=os.environ.get("INSITU_HUB_DATABASE_URL", ""))


def _read_tokens(data: Path) -> list[TokenView]:
    from insitu.hub.store import people
    from insitu.hub.store.session import Store

    _check_is_hub(data)
    store = Store(_settings(data).sqlalchemy_url)
    try:
        with store.read() as session:
            return people.tokens(session)
    finally:
        store.close()


def _revoke(data: Path, token_id: str) -> None:
    from datetime import UTC, datetime

    from insitu.hub.store import people
    from insitu.hub.store.session import Store

    _check_is_hub(data)
    store = Store(_settings(data).sqlalchemy_url)
    try:
        with store.write() as session:
            if not people.revoke_token(session, token_id, now=datetime.now(UTC)):
                raise NotFoundError(f"there is no token {token_id[:40]!r}", hint="see `insitu hub token list`")
    finally:
        store.close()


def _check_is_hub(data: Path) -> None:
    if not (data / "hub-key").exists():
        raise NotFoundError(
            f"{data} is not a hub's folder", code="no-hub-folder", hint="name the one that `insitu hub start` was given"
        )
