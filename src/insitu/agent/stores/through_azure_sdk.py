"""Azure Blob endpoints that speak old service versions only, through Azure's own library.

obstore always asks in version 2023-11-03. Azure Stack Hub knows none of that age:
its datastores have an `api_version`, and this reads them.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError, ServiceRequestError, ServiceResponseError
from azure.storage.blob import ContainerClient

from insitu.agent.stores.addresses import StoreAddress
from insitu.agent.stores.contract import Buffer, ObjectInfo, Progress, Step, StoreLoginError, told_nobody
from insitu.agent.stores.credentials import Credentials
from insitu.agent.stores.meaning import Asked, Refusal, changed, error_of, unreachable
from insitu.agent.stores.own_connections import OwnStreams
from insitu.agent.stores.signed_requests import signer

_PIECE = 4 << 20
_PART = 8 << 20


class AzureSdkStore(OwnStreams):
    """One container."""

    kind = "azure-sdk"

    def __init__(self, address: StoreAddress, credentials: Credentials, *, patient: bool = True) -> None:
        """Opens nothing yet.

        Raises:
            StoreLoginError: the credentials are of a kind that this way does not take.
        """
        self._address, self._credentials = address, credentials
        options: dict[str, Any] = {
            "api_version": address.api_version or None,
            "max_single_get_size": _PART,
            "max_chunk_get_size": _PIECE,
            "max_block_size": _PART,
            "max_single_put_size": _PART,
            "connection_timeout": 10,
            "read_timeout": 60,
            "retry_total": 5 if patient else 0,
            # Azure's library logs the headers of each request; authorisation is left out by it, addresses are not.
            "logging_enable": False,
        }
        try:
            self._container = ContainerClient(
                address.endpoint, address.container, credential=_credential(address, credentials), **options
            )
        except ValueError:
            raise _malformed(address.endpoint) from None
        super().__init__(signer(address, credentials))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        before = self._address.prefix
        with self._asked("list"):
            for blob in self._container.list_blobs(name_starts_with=before + prefix or None):
                yield ObjectInfo(blob.name[len(before) :], blob.size, _plain(blob.etag), blob.last_modified)

    def describe(self, name: str) -> ObjectInfo:
        with self._asked("read", name):
            found = self._blob(name).get_blob_properties()
            return ObjectInfo(name, found.size, _plain(found.etag), found.last_modified)

    def read(self, name: str, start: int, length: int, *, etag: str = "") -> Buffer:
        if not length:
            return b""
        with self._asked("read", name):
            data = self._blob(name).download_blob(start, length, max_concurrency=1, **_only(etag)).readall()
        if len(data) != length:
            raise changed(name)
        return data

    def _stream(self, name: str, start: int, length: int | None, etag: str) -> Iterator[Buffer]:
        if length == 0:
            return
        with self._asked("read", name):
            if start and self._blob(name).get_blob_properties().size <= start:
                return
            offset = start or (None if length is None else 0)  # a length wants an offset
            yield from self._blob(name).download_blob(offset, length, max_concurrency=1, **_only(etag)).chunks()

    def write(self, name: str, source: Path, *, progress: Progress = told_nobody) -> ObjectInfo:
        told = 0

        def hook(done: int, _: int | None) -> None:
            nonlocal told
            progress(done - told)
            told = done

        with self._asked("write", name), source.open("rb") as stream:
            self._blob(name).upload_blob(stream, overwrite=True, max_concurrency=1, progress_hook=hook)
        return self.describe(name)

    def close(self) -> None:
        super().close()
        self._container.close()

    def _blob(self, name: str) -> Any:
        return self._container.get_blob_client(self._address.prefix + name)

    @contextmanager
    def _asked(self, step: Step, name: str = "") -> Iterator[None]:
        """What the library raises, as the contract's errors; nothing of its text."""
        where = self._address.endpoint
        try:
            yield
        except (ServiceRequestError, ServiceResponseError):
            raise unreachable(where) from None
        except HttpResponseError as exc:
            asked = Asked(step, where, self._address.container, name)
            sas = self._credentials.get("sas_token")
            raise error_of(_refusal(exc), asked, now=datetime.now(UTC), sas_token=sas) from None
        except AzureError:
            raise unreachable(where) from None


def _credential(address: StoreAddress, credentials: Credentials) -> Any:
    if credentials.source == "none":
        return None
    if key := credentials.get("account_key"):
        base64.b64decode(key, validate=True)
        return {"account_name": address.account, "account_key": key}
    if sas := credentials.get("sas_token"):
        return sas
    raise StoreLoginError(
        "a datastore with an api_version logs in with an account key or a SAS token",
        code="store-credentials-kind",
        hint="give one with --credentials-file, or leave --api-version out if the endpoint speaks 2023-11-03",
    )


def _refusal(exc: HttpResponseError) -> Refusal:
    code = getattr(exc, "error_code", None)
    headers = getattr(exc.response, "headers", {}) if exc.response is not None else {}
    said = Refusal.of(exc.message or "")
    return Refusal(exc.status_code or 0, str(getattr(code, "value", code) or said.code), said.at or _date(headers))


def _date(headers: Any) -> datetime | None:
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - only after a refusal

    try:
        found = parsedate_to_datetime(headers.get("Date", ""))
    except (TypeError, ValueError):
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def _plain(etag: str) -> str:
    return (etag or "").strip('"')


def _only(etag: str) -> dict[str, Any]:
    return {"etag": f'"{etag}"', "match_condition": MatchConditions.IfNotModified} if etag else {}


def _malformed(where: str) -> StoreLoginError:
    return StoreLoginError(
        f"the credentials for {where} can't be a store's",
        code="store-key-malformed",
        hint="an account key is base64; was it cut when it was copied?",
    )
