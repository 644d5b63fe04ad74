"""`insitu login`: which hub, as whom, with which key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from insitu.cli.commands import single
from insitu.cli.output import current, fields
from insitu.cli.session import read_secret, user_folders
from insitu.sdk.client import Client
from insitu.sdk.config import Login, load_or_make_key, save_login
from insitu.sdk.transport import Transport


def login(
    hub: Annotated[str, typer.Argument(help="Address of the hub, e.g. https://hub.example.org", metavar="HUB")],
    *,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="File that holds the token; - reads a line of stdin.")
    ] = None,
) -> None:
    """Log in to a hub. Makes a signing key at the first time, and registers its public half.

    The token comes from --token-file, from INSITU_TOKEN, from stdin, or from a prompt; never from an argument.
    """
    out = current()
    token = read_secret(token_file, variable="INSITU_TOKEN", what="Token")
    known = Login(hub=hub.rstrip("/"), token=token, ca_file=os.environ.get("SSL_CERT_FILE", ""))
    # Asked before anything is written: a wrong token must not replace one that works.
    transport = Transport(known)
    try:
        transport.call("GET", "/api/v1/whoami")
    finally:
        transport.close()
    folders = user_folders()
    save_login(folders, known)
    with Client(known, load_or_make_key(folders), cache=folders.cache) as client:
        me = client.register_key()
    found = {"hub": known.hub, "name": me.name, "role": me.role.value, "fingerprint": me.key}
    out.show(found, fields(found), name=me.name)
    out.note("A steward lists the fingerprint under `signers` (or `reviewers`) in the policy of their site.")


app = single(login)
