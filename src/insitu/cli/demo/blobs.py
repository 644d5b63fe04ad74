"""A blob store for the demo: Azurite, at an address of its own, with an account and a key made for this one run."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import httpx

from insitu.cli.demo.processes import Processes
from insitu.domain.errors import UnavailableError

CONTAINER = "private"
_VERSION = "2019-02-02"  # of the service, in which the container is made


@dataclass(frozen=True)
class BlobStore:
    """Speaks Azure's blob protocol on loopback."""

    endpoint: str
    account: str
    key: str = field(repr=False)

    def make_container(self) -> None:
        """The one container of the demo, empty.

        Raises:
            UnavailableError: the store does not make it.
        """
        asked = f"{self.endpoint}/{CONTAINER}?restype=container&{self._token()}"
        answer = httpx.put(asked, headers={"x-ms-version": _VERSION}, timeout=30, trust_env=False)
        if answer.status_code != httpx.codes.CREATED:
            raise UnavailableError(
                "the demo's blob store made no container", code="demo-process", why=f"it answered {answer.status_code}"
            )

    def _token(self) -> str:
        """A shared access signature for the account, good for a few minutes (Microsoft: Create an account SAS)."""
        until = (datetime.now(UTC) + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
        said = {"sp": "c", "ss": "b", "srt": "c", "st": "", "se": until, "sip": "", "spr": "", "sv": _VERSION}
        text = "\n".join([self.account, *said.values(), ""])
        signed = base64.b64encode(hmac.digest(base64.b64decode(self.key), text.encode(), hashlib.sha256)).decode()
        return urlencode({**{name: value for name, value in said.items() if value}, "sig": signed})


def start_azurite(processes: Processes, folder: Path, cache: Path) -> BlobStore:
    """Start it, with its data in `folder`.

    Raises:
        UnavailableError: it is not installed, or does not start.
    """
    program = shutil.which("azurite-blob") or shutil.which("azurite-blob", path=cache / "azurite/node_modules/.bin")
    if program is None:
        raise UnavailableError(
            "Azurite is not installed here",
            code="demo-azurite",
            hint=f"npm install --prefix {cache / 'azurite'} azurite@3.35.0, or `insitu demo` with its data in a folder",
        )
    account, key = f"demo{secrets.token_hex(4)}", base64.b64encode(secrets.token_bytes(64)).decode()
    folder.mkdir(mode=0o700)
    options = ["--skipApiVersionCheck", "--disableTelemetry", "--blobHost", "127.0.0.1", "--blobPort", "0"]
    found = processes.start_said(
        "azurite",
        [program, *options, "--location", str(folder)],
        {**os.environ, "AZURITE_ACCOUNTS": f"{account}:{key}"},
        re.compile(r"successfully listens on (http://127\.0\.0\.1:\d+)"),
    )
    return BlobStore(f"{found}/{account}", account, key)
