"""Sites, what they offer, and the rules that they publish."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from insitu.domain.errors import NotFoundError
from insitu.sdk.hub_calls import HubCalls, part
from insitu.wire.people import DatasetView, NewSite, SitePolicyView, SiteRequest, SiteView


class SiteCalls(HubCalls):
    """What one asks a hub about sites and their data."""

    def create_site(self, name: str, labels: Mapping[str, str] | None = None) -> NewSite:
        return NewSite.model_validate(self._post("/api/v1/sites", SiteRequest(name=name, labels=dict(labels or {}))))

    def new_join_token(self, name: str) -> NewSite:
        """Another one-time token for a site whose agent has not joined yet."""
        return NewSite.model_validate(self._http.call("POST", f"/api/v1/sites/{part(name)}/join-token"))

    def dataset(self, name: str, version: int | None = None, *, site: str | None = None) -> DatasetView:
        """A dataset version that a site offers; the newest, where none is named.

        Raises:
            NotFoundError: nobody offers it.
        """
        known = [one for one in self.datasets() if one.name == name and version in (None, one.version)]
        found = [one for one in known if site in (None, one.site)]
        if not found:
            label = name if version is None else f"{name}@{version}"
            where = f"site {site} does not offer" if site else "no site offers"
            raise NotFoundError(f"{where} a dataset {label!r}", code="no-dataset", hint="see `insitu data list`")
        return max(found, key=lambda one: one.version)

    def sites(self) -> list[SiteView]:
        return self._list("/api/v1/sites", SiteView)

    def site(self, name: str) -> SiteView:
        return SiteView.model_validate(self._http.call("GET", f"/api/v1/sites/{part(name)}"))

    def datasets(self) -> list[DatasetView]:
        return self._list("/api/v1/datasets", DatasetView)

    def croissant(self, name: str, version: int | None = None, *, site: str | None = None) -> dict[str, Any]:
        """A dataset version as Croissant 1.1, JSON-LD; the newest, where none is named."""
        asked = {key: value for key, value in (("version", version), ("site", site)) if value is not None}
        query = f"?{urlencode(asked)}" if asked else ""
        return self._http.call("GET", f"/api/v1/datasets/{part(name)}/croissant{query}")

    def site_policy(self, site: str) -> SitePolicyView:
        """The rules that a site publishes.

        Raises:
            NotFoundError: it publishes none.
        """
        return SitePolicyView.model_validate(self._http.call("GET", f"/api/v1/sites/{part(site)}/policy"))
