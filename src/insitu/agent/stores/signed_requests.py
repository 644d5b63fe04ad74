"""Requests for one object that need no library to log in: with a signature that is made here, or a token that was given.

Azure's signature (Shared Key) is of this one request, its range and ETag included, and good
for a quarter of an hour: https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key.
Of the names of objects it takes the encoded form that stands in the request.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import quote, urlsplit

from insitu.agent.stores.addresses import StoreAddress
from insitu.agent.stores.credentials import Credentials

_AZURE_VERSION = "2023-11-03"
_SIGNED_AFTER = ("If-Match", "If-None-Match", "If-Unmodified-Since", "Range")


@dataclass(frozen=True)
class SignedRequest:
    """A GET that its store will answer. Whoever has it can read that object, so nothing of it is shown."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


Signer = Callable[[str, Mapping[str, str]], SignedRequest]
"""(name of the object, headers Range and If-Match) → the request."""


def signer(
    address: StoreAddress, credentials: Credentials, presigned: Callable[[str], str] | None = None
) -> Signer | None:
    """What signs requests to a store; None where only a library can log in.

    Args:
        presigned: an address with an S3 signature in it, by an object's name.
    """
    if presigned is not None and credentials.get("secret_access_key"):
        return lambda name, headers: SignedRequest(presigned(name), headers)
    if not address.endpoint or not (credentials.values or credentials.source == "none"):
        return None
    if key := credentials.get("account_key"):
        return _SharedKey(address, key).sign
    token = credentials.get("sas_token").lstrip("?")
    if not token and credentials.source != "none":
        return None
    version = {"x-ms-version": address.api_version} if address.api_version else {}
    after = f"?{token}" if token else ""
    return lambda name, headers: SignedRequest(f"{_url(address, name)}{after}", {**headers, **version})


@dataclass(frozen=True)
class _SharedKey:
    address: StoreAddress
    key: str = field(repr=False)
    """Base64."""

    def sign(self, name: str, headers: Mapping[str, str]) -> SignedRequest:
        """
        Raises:
            ValueError: the key is none.
        """
        url = _url(self.address, name)
        own = {
            "x-ms-date": format_datetime(datetime.now(UTC), usegmt=True),
            "x-ms-version": self.address.api_version or _AZURE_VERSION,
        }
        lines = [
            "GET",
            *[""] * 7,  # content-*, date (x-ms-date has it), if-modified-since
            *(headers.get(signed, "") for signed in _SIGNED_AFTER),
            *(f"{header}:{value}" for header, value in own.items()),
            f"/{self.address.account}{urlsplit(url).path}",
        ]
        made = base64.b64encode(
            hmac.digest(base64.b64decode(self.key, validate=True), "\n".join(lines).encode(), "sha256")
        ).decode()
        return SignedRequest(url, {**headers, **own, "Authorization": f"SharedKey {self.address.account}:{made}"})


def _url(address: StoreAddress, name: str) -> str:
    return f"{address.endpoint}/{address.container}/{quote(address.prefix + name)}"
