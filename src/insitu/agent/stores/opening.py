"""Which implementation speaks to which store. Imported on use: a folder needs no library of a cloud."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from insitu.agent.stores.addresses import StoreAddress
from insitu.agent.stores.contract import ObjectStore
from insitu.agent.stores.credentials import Credentials
from insitu.agent.stores.folder import FolderStore
from insitu.domain.errors import UnavailableError

# name → (dotted path, extra to install when it can't be imported)
IMPLEMENTATIONS: dict[str, tuple[str, str]] = {
    "obstore": ("insitu.agent.stores.through_obstore:ObstoreStore", "agent"),
    "azure-sdk": ("insitu.agent.stores.through_azure_sdk:AzureSdkStore", "azure"),
}


def open_store(address: StoreAddress, credentials: Credentials, *, patient: bool = True) -> ObjectStore:
    """A store by its address. Nothing is asked of it yet.

    Args:
        patient: try again when it does not answer at once; not so for a check.

    Raises:
        UnavailableError: a package is missing; it names the extra to install.
        StoreLoginError: the credentials can't be right.
    """
    if address.kind == "folder":
        return FolderStore(Path(address.folder))
    return _implementation("azure-sdk" if address.api_version else "obstore")(address, credentials, patient=patient)


def _implementation(name: str) -> Any:
    path, extra = IMPLEMENTATIONS[name]
    module, _, attribute = path.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except ImportError as exc:
        raise UnavailableError(
            f"datastores of this kind need a package that is not installed: {exc.name}",
            code="extra-missing",
            hint=f"pip install 'insitu[agent,{extra}]'" if extra != "agent" else "pip install 'insitu[agent]'",
        ) from exc
