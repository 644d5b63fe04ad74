"""Azure Blob and S3 at any endpoint, through obstore."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, S3Store

from insitu.agent.stores.addresses import StoreAddress
from insitu.agent.stores.contract import (
    Buffer,
    ObjectInfo,
    Progress,
    Step,
    StoreListError,
    StoreLoginError,
    told_nobody,
)
from insitu.agent.stores.credentials import Credentials
from insitu.agent.stores.meaning import Asked, Refusal, changed, error_of
from insitu.agent.stores.own_connections import OwnStreams
from insitu.agent.stores.signed_requests import signer

_PAGE = 1000
_PIECE = 512 << 10  # what is passed on at once should fit into a processor's second cache
_PART = 8 << 20
_SIGNED_FOR = timedelta(minutes=5)
# No limit on a whole answer (a stream may take hours), but on silence in it.
_CLIENT = {"timeout": "24h", "connect_timeout": "10s", "read_timeout": "60s"}


class ObstoreStore(OwnStreams):
    """One container or bucket."""

    def __init__(self, address: StoreAddress, credentials: Credentials, *, patient: bool = True) -> None:
        """Opens nothing yet.

        Args:
            patient: try again when the store does not answer at once.

        Raises:
            StoreLoginError: the credentials can't be what the store wants.
        """
        self._address, self._credentials = address, credentials
        self._where = address.endpoint or f"s3 in {address.region}"
        retries: dict[str, Any] = {"max_retries": 6 if patient else 0, "retry_timeout": timedelta(minutes=2)}
        client = {**_CLIENT, "allow_http": address.endpoint.startswith("http://")}
        make = _azure if address.kind == "azure" else _s3
        try:
            self._store: Any = make(address, credentials, {"client_options": client, "retry_config": retries})
        except (BaseError, ValueError, TypeError):
            raise _malformed(self._where) from None
        super().__init__(signer(address, credentials, lambda name: obstore.sign(self._store, "GET", name, _SIGNED_FOR)))

    @property
    def kind(self) -> str:
        return self._address.kind

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        above = prefix.rpartition("/")[0]  # obstore's own prefixes end with a name's part
        with self._asked("list"):
            for page in obstore.list(self._store, above or None, chunk_size=_PAGE):
                yield from (_info(one) for one in page if one["path"].startswith(prefix))

    def describe(self, name: str) -> ObjectInfo:
        with self._asked("read", name):
            return _info(obstore.head(self._store, name))

    def read(self, name: str, start: int, length: int, *, etag: str = "") -> Buffer:
        if not length:
            return b""
        options: dict[str, Any] = {"range": (start, start + length), **_only(etag)}
        with self._asked("read", name):
            data = memoryview(cast("Any", obstore.get(self._store, name, options=cast("Any", options)).bytes()))
        if len(data) != length:
            raise changed(name)
        return data

    def _stream(self, name: str, start: int, length: int | None, etag: str) -> Iterator[Buffer]:
        if length == 0:
            return
        part: Any = (start, start + length) if length is not None else {"offset": start}
        options: dict[str, Any] = {**({"range": part} if start or length else {}), **_only(etag)}
        with self._asked("read", name):
            yield from obstore.get(self._store, name, options=cast("Any", options)).stream(min_chunk_size=_PIECE)

    def write(self, name: str, source: Path, *, progress: Progress = told_nobody) -> ObjectInfo:
        size = source.stat().st_size
        with self._asked("write", name):
            if size <= _PART:
                obstore.put(self._store, name, source, use_multipart=False)
                progress(size)
            else:
                obstore.put(self._store, name, _parts(source, progress), chunk_size=_PART, max_concurrency=4)
        return self.describe(name)

    @contextmanager
    def _asked(self, step: Step, name: str = "") -> Iterator[None]:
        """What obstore raises, as the contract's errors; nothing of its text, which may hold a signed address."""
        try:
            yield
        except (BaseError, OSError, ValueError) as exc:
            text = str(exc)
            if "Invalid Access Key" in text:
                raise _malformed(self._where) from None
            if step == "list" and "status code" not in text and "InvalidPath" in text:
                raise _strange_names(self._address.container) from None
            asked = Asked(step, self._where, self._address.container, name)
            sas = self._credentials.get("sas_token")
            raise error_of(Refusal.of(text), asked, now=datetime.now(UTC), sas_token=sas) from None


def _parts(source: Path, progress: Progress) -> Iterator[bytes]:
    with source.open("rb") as stream:
        while data := stream.read(_PIECE):
            yield data
            progress(len(data))


def _azure(address: StoreAddress, credentials: Credentials, options: dict[str, Any]) -> Any:
    config: dict[str, Any] = {
        "account_name": address.account,
        "container_name": address.container,
        "endpoint": address.endpoint,
    }
    if credentials.source == "managed-identity":
        config["credential_type"] = "managed_identity"
    elif credentials.source == "none":
        config["skip_signature"] = True
    elif key := credentials.get("account_key"):
        config |= {"account_key": key, "credential_type": "access_key"}
    elif sas := credentials.get("sas_token"):
        config |= {"sas_key": sas.lstrip("?"), "credential_type": "sas_token"}
    else:
        names = ("tenant_id", "client_id", "client_secret", "authority_host")
        config |= {name: credentials.get(name) for name in names if credentials.get(name)}
        config["credential_type"] = "client_secret"
    return AzureStore(prefix=address.prefix.rstrip("/") or None, **config, **options)


def _s3(address: StoreAddress, credentials: Credentials, options: dict[str, Any]) -> Any:
    config: dict[str, Any] = {"region": address.region}
    if address.endpoint:
        # A store of a site's own has one name for all its buckets; Amazon's own wants the bucket in front.
        config |= {"endpoint": address.endpoint, "virtual_hosted_style_request": False}
    if credentials.source == "none":
        config["skip_signature"] = True
    elif credentials.source != "managed-identity":
        names = ("access_key_id", "secret_access_key", "session_token")
        config |= {name: credentials.get(name) for name in names if credentials.get(name)}
    return S3Store(address.container, prefix=address.prefix.rstrip("/") or None, **config, **options)


def _info(found: Any) -> ObjectInfo:
    etag = (found["e_tag"] or "").strip('"')  # lists have it without quotes, answers with them
    return ObjectInfo(found["path"], found["size"], etag, found["last_modified"])


def _only(etag: str) -> dict[str, str]:
    return {"if_match": f'"{etag}"'} if etag else {}


def _malformed(where: str) -> StoreLoginError:
    return StoreLoginError(
        f"the credentials for {where} can't be a store's",
        code="store-key-malformed",
        hint="an account key is base64, a token begins with sv= or se=; was it cut when it was copied?",
    )


def _strange_names(container: str) -> StoreListError:
    return StoreListError(
        f"{container} holds an object whose name is no path",
        code="store-name",
        hint="empty parts (`a//b`), `.` and `..` in names can't be read here; rename it, or name a prefix without it",
    )
