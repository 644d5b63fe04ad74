"""A datastore's credentials: where they come from, and what they may be. They stay at the site.

    file               the site's own datastores.yaml, mode 0600, copied there from --credentials-file
    environment        of the agent's process, read each time that the store is opened
    managed-identity   of the machine, asked by the store's library
    none               a folder, or a container that everybody may read

A credentials file is YAML or `NAME=value` lines, by the names below or by those of
the environment. Nothing here prints a value: `repr` shows names only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from insitu.agent.stores.addresses import StoreKind
from insitu.domain.errors import InvalidInputError

Source = Literal["file", "environment", "managed-identity", "none"]

_NAMES: Mapping[StoreKind, Mapping[str, tuple[str, ...]]] = {
    "azure": {
        "account_key": ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCESS_KEY"),
        "sas_token": ("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY"),
        "tenant_id": ("AZURE_TENANT_ID",),
        "client_id": ("AZURE_CLIENT_ID",),
        "client_secret": ("AZURE_CLIENT_SECRET",),
        "authority_host": ("AZURE_AUTHORITY_HOST",),
    },
    "s3": {
        "access_key_id": ("AWS_ACCESS_KEY_ID",),
        "secret_access_key": ("AWS_SECRET_ACCESS_KEY",),
        "session_token": ("AWS_SESSION_TOKEN",),
    },
    "folder": {},
}
_WHOLE: Mapping[StoreKind, tuple[frozenset[str], ...]] = {
    "azure": (
        frozenset({"account_key"}),
        frozenset({"sas_token"}),
        frozenset({"tenant_id", "client_id", "client_secret"}),
    ),
    "s3": (frozenset({"access_key_id", "secret_access_key"}),),
    "folder": (),
}
"""Any of these sets is enough to log in."""

SECRET_VARIABLES = frozenset(name for names in _NAMES.values() for known in names.values() for name in known)
"""Variables of the environment that hold credentials."""


@dataclass(frozen=True)
class Credentials:
    """What a store's library logs in with. Never shown, never logged."""

    source: Source = "none"
    values: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)

    def get(self, name: str) -> str:
        return self.values.get(name, "")


def read_credentials(kind: StoreKind, text: str) -> dict[str, str]:
    """What a credentials file says.

    Raises:
        InvalidInputError: it is not such a file; the error names keys, never values.
    """
    try:
        document: Any = yaml.safe_load(text) if ":" in text.partition("\n")[0] or "=" not in text else _lines(text)
    except yaml.YAMLError:
        raise _not_right("it is neither YAML nor NAME=value lines") from None
    if not isinstance(document, dict) or not document:
        raise _not_right("it is neither YAML nor NAME=value lines")
    canonical = {other: name for name, others in _NAMES[kind].items() for other in (name, *others)}
    values: dict[str, str] = {}
    for key, value in document.items():
        if str(key) not in canonical:
            raise _not_right(f"it has a key that means nothing here; known are {', '.join(_NAMES[kind])}")
        values[canonical[str(key)]] = str(value).strip()
    return check_whole(kind, values)


def store_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Of a process's environment only what stores log in with."""
    return {name: value for name, value in environment.items() if name in SECRET_VARIABLES and value}


def from_environment(kind: StoreKind, environment: Mapping[str, str]) -> dict[str, str]:
    """The credentials that the environment has, by our names; maybe none."""
    found = {
        name: next((environment[variable] for variable in variables if environment.get(variable)), "")
        for name, variables in _NAMES[kind].items()
    }
    return {name: value for name, value in found.items() if value}


def check_whole(kind: StoreKind, values: dict[str, str]) -> dict[str, str]:
    """`values`, if they are enough to log in.

    Raises:
        InvalidInputError: they are not.
    """
    if not any(needed <= {name for name, value in values.items() if value} for needed in _WHOLE[kind]):
        enough = "; or ".join(", ".join(sorted(needed)) for needed in _WHOLE[kind])
        raise _not_right(f"it needs {enough}" if enough else "a folder has no credentials")
    return values


def _lines(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    return {name.strip().removeprefix("export "): value.strip().strip("'\"") for name, _, value in pairs}


def _not_right(why: str) -> InvalidInputError:
    return InvalidInputError(
        "the credentials are not right",
        code="datastore-credentials",
        why=why,
        hint="e.g. a file with the line `account_key: …`, or `sas_token: …`, or access_key_id and secret_access_key",
    )
