"""Where a datastore is: what a steward writes, as parts that mean one thing each.

    /srv/data            file:///srv/data                        a folder
    az://container/some/prefix  --endpoint https://account.blob.local.azurestack.external
    s3://bucket/some/prefix     --endpoint https://minio.site:9000

An Azure endpoint may have any suffix. Its account is the host's first label, or the
path's only part where the host is no name of an account (Azurite, a proxy):
http://127.0.0.1:10000/devstoreaccount1.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

from insitu.domain.errors import InvalidInputError

StoreKind = Literal["folder", "azure", "s3"]

_KINDS: dict[str, StoreKind] = {"az": "azure", "azure": "azure", "s3": "s3", "file": "folder", "": "folder"}


@dataclass(frozen=True)
class StoreAddress:
    """Where objects are. Holds no secret: it may be shown, logged and compared."""

    kind: StoreKind
    folder: str = ""
    """Absolute path; of a folder only."""
    container: str = ""
    """Container or bucket."""
    prefix: str = ""
    """What the names of all objects begin with, with a slash at its end; may be empty."""
    endpoint: str = ""
    """http(s)://host[:port][/account], without a slash at its end; empty: the provider's own."""
    account: str = ""
    """Azure's storage account."""
    region: str = ""
    api_version: str = ""
    """Azure's service version, e.g. 2019-02-02, for endpoints that speak only old ones."""

    @property
    def url(self) -> str:
        """As the steward wrote it."""
        if self.kind == "folder":
            return self.folder
        return f"{'az' if self.kind == 'azure' else 's3'}://{self.container}/{self.prefix}".rstrip("/")


def parse_address(
    url: str, *, endpoint: str = "", account: str = "", region: str = "", api_version: str = ""
) -> StoreAddress:
    """Take a datastore's URL and options apart.

    Raises:
        InvalidInputError: they don't say where a store is; or hold a secret, which then is in the shell's history.
    """
    scheme, separator, rest = url.partition("://")
    kind = _KINDS.get(scheme if separator else "")
    if kind is None:
        raise InvalidInputError(
            f"datastores of kind {scheme[:20]!r} are not known",
            code="datastore-kind",
            hint="az://container --endpoint https://…, s3://bucket --endpoint https://…, or an absolute folder",
        )
    if kind == "folder":
        return _folder(rest if separator else url, endpoint or account or region or api_version)
    if "@" in rest or "?" in rest or "?" in endpoint or "@" in endpoint:
        raise InvalidInputError(
            "an address holds no credentials: others can read a command's arguments",
            code="datastore-secret",
            hint="give them with --credentials-file; change those that were just typed",
        )
    container, _, prefix = rest.partition("/")
    if not container:
        raise InvalidInputError(f"{url} names no container", code="datastore-url", hint="e.g. az://container")
    clean = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    end = _endpoint(endpoint)
    if kind == "s3":
        if account or api_version:
            raise InvalidInputError("--account and --api-version are Azure's", code="datastore-option")
        return StoreAddress("s3", container=container, prefix=clean, endpoint=end, region=region or "us-east-1")
    account = account or _account_in(end)
    if not account:
        raise InvalidInputError(
            "it is not said which storage account",
            code="datastore-account",
            hint="--endpoint https://ACCOUNT.blob.SUFFIX, or --account ACCOUNT",
        )
    return StoreAddress(
        "azure",
        container=container,
        prefix=clean,
        endpoint=end or f"https://{account}.blob.core.windows.net",
        account=account,
        api_version=_api_version(api_version),
    )


def _folder(path: str, options: str) -> StoreAddress:
    if options:
        raise InvalidInputError("a folder has no endpoint, account or region", code="datastore-option")
    if not PurePosixPath(path).is_absolute():
        raise InvalidInputError(
            f"{path} is not an absolute path", code="datastore-folder", hint="e.g. /srv/data or file:///srv/data"
        )
    return StoreAddress("folder", folder=path)


def _endpoint(endpoint: str) -> str:
    if not endpoint:
        return ""
    parts = urlsplit(endpoint)
    try:
        named = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        named = False
    if not named or parts.fragment:
        raise InvalidInputError(
            f"{endpoint[:200]} is not an endpoint",
            code="datastore-endpoint",
            hint="e.g. https://account.blob.site.example",
        )
    return endpoint.rstrip("/")


def _account_in(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    path = parts.path.strip("/")
    if path:
        return path.split("/")[0]
    host = parts.hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host.split(".")[0] if "." in host else ""
    return ""


def _api_version(text: str) -> str:
    parts = text.split("-")
    if text and not (
        len(parts) == 3 and [len(part) for part in parts] == [4, 2, 2] and text.replace("-", "").isdigit()
    ):
        raise InvalidInputError(
            f"{text[:40]} is not a service version", code="datastore-api-version", hint="e.g. --api-version 2019-02-02"
        )
    return text
