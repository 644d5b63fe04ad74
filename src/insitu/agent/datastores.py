"""Datastores: where bytes are at a site, by name. Known to the site alone; the hub never hears of them.

Kept in datastores.yaml, mode 0600, since a store's credentials stand in it:

    private: {folder: /srv/data}
    blobs:
      address: {kind: azure, container: studies, endpoint: https://hospital.blob.stack.example, account: hospital}
      credentials: {source: file, account_key: …}
    archive:
      address: {kind: s3, container: archive, endpoint: https://s3.site.example:9000, region: us-east-1}
      credentials: {source: environment}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from insitu.agent.folder import SiteFolder, write_atomic
from insitu.agent.stores.addresses import StoreAddress, parse_address
from insitu.agent.stores.contract import ObjectStore, StoreLoginError
from insitu.agent.stores.credentials import (
    Credentials,
    Source,
    check_whole,
    from_environment,
    read_credentials,
)
from insitu.agent.stores.opening import open_store
from insitu.domain.errors import ConflictError, InvalidInputError, NotFoundError
from insitu.domain.ids import check_name

_SOURCES: tuple[Source, ...] = ("file", "environment", "managed-identity", "none")


@dataclass(frozen=True)
class Datastore:
    """A store at the site, by name."""

    name: str
    address: StoreAddress
    credentials: Credentials = field(default_factory=Credentials)

    def as_dict(self) -> dict[str, Any]:
        """For the steward. Of credentials only where they come from."""
        address = self.address
        shown = {
            "name": self.name,
            "kind": address.kind,
            "url": address.url,
            "endpoint": address.endpoint,
            "account": address.account,
            "region": address.region,
            "api_version": address.api_version,
            "credentials": self.credentials.source if address.kind != "folder" else "",
        }
        if address.kind == "folder":
            shown["folder"] = address.folder
        return {key: value for key, value in shown.items() if value}

    def open(self, environment: Mapping[str, str], *, patient: bool = True) -> ObjectStore:
        """The store itself. Nothing is asked of it yet.

        Args:
            environment: of this process; read only where the credentials are said to stand there.
            patient: try again when it does not answer at once.

        Raises:
            UnavailableError: a package is missing.
            StoreLoginError: there are no credentials, or they can't be right.
        """
        return open_store(self.address, self._with_values(environment), patient=patient)

    def _with_values(self, environment: Mapping[str, str]) -> Credentials:
        if self.credentials.source != "environment":
            return self.credentials
        values = from_environment(self.address.kind, environment)
        try:
            return Credentials("environment", check_whole(self.address.kind, values))
        except InvalidInputError as exc:
            raise StoreLoginError(
                f"the environment holds no credentials for datastore {self.name}",
                code="store-no-credentials",
                why=exc.why,
                hint="set them for the agent's process, or add the datastore again with --credentials-file",
            ) from None


def list_datastores(folder: SiteFolder) -> list[Datastore]:
    return [_from_entry(name, entry) for name, entry in _entries(folder).items()]


def find_datastore(folder: SiteFolder, name: str) -> Datastore:
    """The datastore of that name.

    Raises:
        NotFoundError: there is none.
    """
    entries = _entries(folder)
    if name not in entries:
        raise NotFoundError(
            f"there is no datastore {name!r} at this site",
            code="no-datastore",
            hint=f"known: {', '.join(entries) or 'none'}; add one with `insitu datastore add`",
        )
    return _from_entry(name, entries[name])


def open_datastore(folder: SiteFolder, name: str, environment: Mapping[str, str]) -> ObjectStore:
    """The store of that name, ready to be asked; see `Datastore.open`."""
    return find_datastore(folder, name).open(environment)


def add_datastore(
    folder: SiteFolder,
    name: str,
    url: str,
    *,
    endpoint: str = "",
    account: str = "",
    region: str = "",
    api_version: str = "",
    source: Source = "none",
    secret: str = "",
    replace: bool = False,
) -> Datastore:
    """Name a store. Nothing is asked of it: `check_datastore` does that.

    Args:
        source: where its credentials come from.
        secret: the text of a credentials file, for the source `file`.
        replace: the name may be taken; it then means this from now on. Versions that were added stay as they are.

    Raises:
        InvalidInputError: name, address or credentials are not right, or there is no such folder.
        ConflictError: the name is taken.
    """
    check_name(name, what="datastore")
    address = parse_address(url, endpoint=endpoint, account=account, region=region, api_version=api_version)
    if source not in _SOURCES:
        raise InvalidInputError(f"credentials come from {', '.join(_SOURCES)}", code="datastore-credentials")
    values = read_credentials(address.kind, secret) if source == "file" else {}
    if address.kind == "folder":
        address = _existing_folder(address, source)
    entries = _entries(folder)
    if name in entries and not replace:
        raise ConflictError(
            f"there is a datastore {name!r} already",
            code="datastore-exists",
            hint="--replace gives the name another address or other credentials",
        )
    store = Datastore(name, address, Credentials(source, values))
    entries[name] = _entry_of(store)
    write_atomic(folder.datastores, yaml.safe_dump(entries, sort_keys=False).encode())
    return store


def _existing_folder(address: StoreAddress, source: Source) -> StoreAddress:
    path = Path(address.folder)
    if source != "none":
        raise InvalidInputError("a folder has no credentials", code="datastore-credentials")
    if not path.is_dir():
        raise InvalidInputError(
            f"{path} is not a folder at this site", code="datastore-folder", hint="give an absolute path that exists"
        )
    return StoreAddress("folder", folder=str(path.resolve()))


def _entries(folder: SiteFolder) -> dict[str, Any]:
    try:
        return yaml.safe_load(folder.datastores.read_text()) or {}
    except FileNotFoundError:
        return {}
    except yaml.YAMLError:
        raise InvalidInputError(f"{folder.datastores} is not YAML", code="datastores-file") from None


def _entry_of(store: Datastore) -> dict[str, Any]:
    if store.address.kind == "folder":
        return {"folder": store.address.folder}
    address = {key: value for key, value in asdict(store.address).items() if value}
    return {"address": address, "credentials": {"source": store.credentials.source, **store.credentials.values}}


def _from_entry(name: str, entry: Mapping[str, Any]) -> Datastore:
    if "folder" in entry:
        return Datastore(name, StoreAddress("folder", folder=entry["folder"]))
    try:
        credentials = dict(entry.get("credentials", {}))
        source = credentials.pop("source", "none")
        return Datastore(name, StoreAddress(**entry["address"]), Credentials(source, credentials))
    except (KeyError, TypeError, ValueError):
        raise InvalidInputError(
            f"datastores.yaml says nothing that can be read of {name!r}",
            code="datastores-file",
            hint="add the datastore again with `insitu datastore add --replace`",
        ) from None
