"""`insitu doctor`: whether this machine, this login and this hub work together."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any

import httpx
import typer
from rich.text import Text

from insitu.cli.commands import single
from insitu.cli.output import Output, current, state, table
from insitu.cli.session import user_folders
from insitu.domain.errors import InsituError
from insitu.sdk.client import Client
from insitu.sdk.config import load_login

_MAX_SKEW_S = 120.0


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `level` is ok, warning or failed."""

    name: str
    level: str
    what: str
    hint: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "state": self.level, "what": self.what, "hint": self.hint}


def show_checks(checks: list[Check], out: Output) -> None:
    """Print what was found, and end with 1 when something failed."""
    columns = {
        "check": lambda check: check.name,
        "state": lambda check: state(check.level),
        "found": lambda check: Text.assemble(check.what, (f"\n{check.hint}" if check.hint else "", "cyan")),
    }
    good = not any(check.level == "failed" for check in checks)
    out.show({"ok": good, "checks": [check.as_dict() for check in checks]}, table(checks, columns))
    if not good:
        raise typer.Exit(1)


def attempt(name: str, look: Callable[[], Check]) -> Check:
    """What `look` finds; an error is a finding too."""
    try:
        return look()
    except InsituError as exc:
        return Check(name, "failed", exc.what + (f" ({exc.why})" if exc.why else ""), exc.hint)
    except Exception as exc:  # noqa: BLE001 - whatever is wrong with this machine is what was looked for
        return Check(name, "failed", f"{type(exc).__name__}: {exc}"[:300])


def private_file(name: str, path: Any) -> Check:
    """Whether a secret's file is there and closed to others."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as exc:
        return Check(name, "failed", f"{path}: {exc.strerror}")
    if mode & 0o077:
        return Check(
            name, "failed", f"{path} may be read by others (mode {mode:o})", f"chmod 600 {path}, then rotate it"
        )
    return Check(name, "ok", f"{path}, mode {mode:o}")


def doctor() -> None:
    """Check this machine, the login and the hub."""
    show_checks(list(_checks()), current())


def _checks() -> Iterator[Check]:
    yield Check("version", "ok", f"insitu {version('insitu')}")
    yield _uv()
    folders = user_folders()
    login = attempt("login", lambda: Check("login", "ok", load_login(folders, dict(os.environ)).hub))
    yield login
    if login.level != "ok":
        return
    for name, path in (("key file", folders.key), ("token file", folders.token)):
        if path.exists():
            yield private_file(name, path)
    hub = attempt("hub", lambda: _hub(login.what))
    yield hub
    if hub.level == "ok":
        yield attempt("token", _who)


def _uv() -> Check:
    found = shutil.which("uv")
    if found is None:
        return Check("uv", "failed", "uv is not on PATH", "environments are locked with it: pip install uv")
    return Check("uv", "ok", found)


def _hub(address: str) -> Check:
    reply = httpx.get(f"{address}/api/v1/version", timeout=10, verify=os.environ.get("SSL_CERT_FILE") or True)
    reply.raise_for_status()
    theirs = reply.json().get("version", "")
    said = reply.headers.get("date")
    skew_s = abs((parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()) if said else 0.0
    if skew_s > _MAX_SKEW_S:
        return Check("hub", "failed", f"its clock differs by {skew_s:.0f} s", "signatures carry times: set the clocks")
    if theirs != version("insitu"):
        return Check("hub", "warning", f"{address} runs {theirs}, this is {version('insitu')}")
    return Check("hub", "ok", f"{address}, version {theirs}")


def _who() -> Check:
    with Client.from_env() as client:
        me = client.whoami()
        mine = client.fingerprint
    if me.key and me.key != mine:
        return Check("token", "warning", f"{me.name} has another key at the hub", "`insitu login` registers this one")
    return Check("token", "ok", f"{me.name}, {me.role.value}")


app = single(doctor)
