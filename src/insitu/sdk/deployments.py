"""Deployments: signed here, made and kept by their sites."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from insitu.domain.digests import Digest
from insitu.domain.errors import UnavailableError
from insitu.sdk.hub_calls import HubCalls, part
from insitu.wire.deployments import DeployedModel, ServingResources, sign_deployment
from insitu.wire.people import DeploymentRequest, DeploymentView, ImageView, ModelVersionView

_POLL_S = 0.2


class DeploymentCalls(HubCalls):
    """What one asks a hub about deployments."""

    def deploy(
        self, name: str, *, model: ModelVersionView, image: ImageView | None, site: str, port: int | None = None
    ) -> DeploymentView:
        """Sign a deployment at a site and hand it to the hub.

        Args:
            image: of the model; None for a resident one, whose site builds its image itself.
        """
        before = next((one for one in self.deployments() if one.name == name), None)
        envelope = sign_deployment(
            name=name,
            site=site,
            revision=(before.revision if before else 0) + 1,
            model=DeployedModel(name=model.name, version=model.version, digest=model.digest),
            image=Digest(image.digest) if image else None,
            base=image.base if image else model.tags.get("insitu.base", ""),
            lock=image.lock if image else model.tags.get("insitu.lock", ""),
            port=port,
            resources=ServingResources(),
            submitter=self._name(),
            key=self._key,
            now=datetime.now(UTC),
        )
        return DeploymentView.model_validate(self._post("/api/v1/deployments", DeploymentRequest(envelope=envelope)))

    def deployments(self, *, deleted: bool = True) -> list[DeploymentView]:
        """All of them, also those that should be no more: their revisions are never given again."""
        return self._list(f"/api/v1/deployments?deleted={str(deleted).lower()}", DeploymentView)

    def deployment(self, name: str) -> DeploymentView:
        return DeploymentView.model_validate(self._http.call("GET", f"/api/v1/deployments/{part(name)}"))

    def delete_deployment(self, name: str) -> DeploymentView:
        return DeploymentView.model_validate(self._http.call("DELETE", f"/api/v1/deployments/{part(name)}"))

    def wait_deployment(
        self,
        name: str,
        *,
        timeout_s: float = 120.0,
        until: tuple[str, ...] = ("healthy", "failed"),
        progress: Callable[[DeploymentView], None] = lambda _: None,
    ) -> DeploymentView:
        """Wait until a deployment is in one of the states `until`.

        Raises:
            UnavailableError: it took longer than `timeout_s`.
        """
        end = time.monotonic() + timeout_s
        while True:
            found = self.deployment(name)
            progress(found)
            if found.state in until:
                return found
            if time.monotonic() > end:
                raise UnavailableError(
                    f"deployment {name} is still {found.state}",
                    code="timeout",
                    why=found.reason.what,
                    hint=f"it goes on; see `insitu deployment show {name}`",
                )
            time.sleep(_POLL_S)
