"""Datastores: where bytes are at a site. Known to the site alone; the hub never hears of them.

This version reads folders (a disk, an NFS mount). The file is mode 0600 because
other kinds of store have credentials.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from insitu.agent.folder import SiteFolder, write_atomic
from insitu.domain.errors import ConflictError, InvalidInputError, NotFoundError
from insitu.domain.ids import check_name


@dataclass(frozen=True)
class Datastore:
    """A folder at the site, by name."""

    name: str
    folder: Path

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "kind": "folder", "folder": str(self.folder)}


def list_datastores(folder: SiteFolder) -> list[Datastore]:
    if not folder.datastores.exists():
        return []
    document = yaml.safe_load(folder.datastores.read_text()) or {}
    return [Datastore(name, Path(entry["folder"])) for name, entry in document.items()]


def find_datastore(folder: SiteFolder, name: str) -> Datastore:
    known = {store.name: store for store in list_datastores(folder)}
    if name not in known:
        raise NotFoundError(
            f"there is no datastore {name!r} at this site",
            code="no-datastore",
            hint=f"known: {', '.join(known) or 'none'}; add one with `insitu datastore add`",
        )
    return known[name]


def add_datastore(folder: SiteFolder, name: str, url: str) -> Datastore:
    """Name a folder of this machine.

    Raises:
        InvalidInputError: the name or the URL is not right, or there is no such folder.
        ConflictError: the name is taken.
    """
    check_name(name, what="datastore")
    path = Path(url.removeprefix("file://"))
    if "://" in str(url.removeprefix("file://")):
        raise InvalidInputError(
            f"datastores of kind {url.partition(':')[0]!r} can't be read by this version",
            code="datastore-kind",
            hint="give a folder, e.g. an absolute path or file:///srv/data",
        )
    if not path.is_absolute() or not path.is_dir():
        raise InvalidInputError(
            f"{path} is not a folder at this site", code="datastore-folder", hint="give an absolute path that exists"
        )
    stores = list_datastores(folder)
    if any(store.name == name for store in stores):
        raise ConflictError(f"there is a datastore {name!r} already", code="datastore-exists")
    store = Datastore(name, path.resolve())
    document = {known.name: {"folder": str(known.folder)} for known in [*stores, store]}
    write_atomic(folder.datastores, yaml.safe_dump(document, sort_keys=False).encode())
    return store
