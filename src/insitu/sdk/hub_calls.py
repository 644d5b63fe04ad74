"""What all calls of the client share: one hub, one person, that person's signing key."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from insitu.images.registry import RegistrySettings
from insitu.sdk.config import Login
from insitu.sdk.transport import Transport
from insitu.wire.keys import SigningKey
from insitu.wire.people import KeyRequest, WhoAmI

View = TypeVar("View", bound=BaseModel)


class HubCalls:
    """One hub, as one person. Calls by what they are about are in the classes that build on this."""

    def __init__(
        self,
        login: Login,
        key: SigningKey,
        *,
        cache: Path,
        index_url: str | None = None,
        registry: RegistrySettings | None = None,
        carrier: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = Transport(login, carrier=carrier)
        self._key = key
        self._cache = cache
        self._index_url = index_url
        self._registry = registry
        self._me: WhoAmI | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    @property
    def hub(self) -> str:
        return self._http.hub

    @property
    def fingerprint(self) -> str:
        """Of this person's key: what a steward lists under `signers`."""
        return self._key.fingerprint

    def whoami(self) -> WhoAmI:
        return WhoAmI.model_validate(self._http.call("GET", "/api/v1/whoami"))

    def register_key(self) -> WhoAmI:
        """Tell the hub this person's public key, for display; sites know it by their policy only."""
        self._me = WhoAmI.model_validate(
            self._http.call("PUT", "/api/v1/me/key", json=KeyRequest(public_key=self._key.public.text).model_dump())
        )
        return self._me

    # -- for those that build on this ----------------------------------------------------------------------------------

    def _name(self) -> str:
        if self._me is None:
            self._me = self.whoami()
            if self._me.key != self._key.fingerprint:
                self._me = self.register_key()
        return self._me.name

    def _post(self, path: str, request: BaseModel) -> Any:
        body = request.model_dump_json().encode()
        return self._http.call("POST", path, content=body, headers={"Content-Type": "application/json"})

    def _list(self, path: str, view: type[View]) -> list[View]:
        reply = self._http.call("GET", path)
        items = reply["items"] if isinstance(reply, dict) and "items" in reply else reply
        return [view.model_validate(item) for item in items]


def part(name: str) -> str:
    """A name as one part of a path: it can't lead to another address of the hub."""
    return quote(name, safe=":@")
