"""Models that left their sites, and the images that they are put into."""

from __future__ import annotations

import time

from insitu.domain.errors import InvalidInputError, NotFoundError, UnavailableError
from insitu.sdk.hub_calls import HubCalls, part
from insitu.wire.envelopes import Envelope
from insitu.wire.people import AliasRequest, ImageRequest, ImageView, ModelVersionView, TagRequest


class ModelCalls(HubCalls):
    """What one asks a hub about models and images."""

    def models(self) -> list[ModelVersionView]:
        return self._list("/api/v1/models", ModelVersionView)

    def model_versions(self, name: str) -> list[ModelVersionView]:
        return self._list(f"/api/v1/models/{part(name)}", ModelVersionView)

    def model(self, reference: str) -> ModelVersionView:
        """`name`, `name:3` or `name@champion`.

        Raises:
            NotFoundError: there is no such version or alias.
        """
        name, alias, version = _split_reference(reference)
        versions = self.model_versions(name)
        for found in sorted(versions, key=lambda one: -one.version):
            if (alias and alias in found.aliases) or (version and found.version == version) or not (alias or version):
                return found
        raise NotFoundError(
            f"there is no model {reference!r}",
            code="no-model",
            hint=f"versions: {', '.join(str(one.version) for one in versions) or 'none'}; see `insitu model list`",
        )

    def model_statement(self, name: str, version: int) -> Envelope:
        """What the site signed when it let this version out: an in-toto statement, unverified."""
        path = f"/api/v1/models/{part(name)}/versions/{version}/statement"
        return Envelope.model_validate(self._http.call("GET", path))

    def tag_model(self, name: str, version: int, key: str, value: str) -> ModelVersionView:
        return ModelVersionView.model_validate(
            self._http.call(
                "PUT",
                f"/api/v1/models/{part(name)}/versions/{version}/tags",
                json=TagRequest(key=key, value=value).model_dump(),
            )
        )

    def alias_model(self, name: str, alias: str, version: int) -> ModelVersionView:
        request = AliasRequest(alias=alias, version=version)
        return ModelVersionView.model_validate(
            self._http.call("PUT", f"/api/v1/models/{part(name)}/aliases", json=request.model_dump())
        )

    # -- images --------------------------------------------------------------------------------------------------------

    def build_image(self, model: str, version: int, *, push: bool = True) -> ImageView:
        return ImageView.model_validate(
            self._post("/api/v1/images", ImageRequest(model=model, version=version, push=push))
        )

    def images(self) -> list[ImageView]:
        return self._list("/api/v1/images", ImageView)

    def image(self, reference: str) -> ImageView:
        return ImageView.model_validate(self._http.call("GET", f"/api/v1/images/{part(reference)}"))

    def wait_image(self, image_id: str, *, timeout_s: float = 600.0) -> ImageView:
        end = time.monotonic() + timeout_s
        while True:
            image = self.image(image_id)
            if image.state != "building":
                return image
            if time.monotonic() > end:
                raise UnavailableError(f"image {image_id} is still being built", code="timeout")
            time.sleep(0.1)


def _split_reference(reference: str) -> tuple[str, str, int]:
    """(name, alias, version): at most one of the last two is set."""
    name, mark, alias = reference.partition("@")
    if mark:
        return name, alias, 0
    name, mark, version = reference.partition(":")
    if mark and not version.isdecimal():
        raise InvalidInputError(
            f"{version!r} is not a version", code="model-reference", hint="name, name:3 or name@alias"
        )
    return name, "", int(version or 0)
