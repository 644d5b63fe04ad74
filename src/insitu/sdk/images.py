"""Takes the image that a job names, so that it can be signed part by part and handed to the hub.

    oci:/folder@sha256:…     an OCI layout on this machine, e.g. of `podman save --format oci-dir` or `skopeo copy`
    host/name@sha256:…       a registry, fetched into the client's cache

The digest may be an image's or that of an index of several platforms; what is signed is
each platform's own manifest, which is also what a site's policy lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from insitu.domain.digests import Digest, parse_digest
from insitu.domain.errors import InvalidInputError
from insitu.images.base import check_platform, choose_platform, config_of, describe_base, layers_of
from insitu.images.layout import OciLayout
from insitu.images.registry import RegistrySettings
from insitu.wire.jobs import ImagePin


@dataclass(frozen=True)
class TakenImage:
    """An image for one platform, and where its parts lie on this machine."""

    pin: ImagePin
    files: Mapping[str, Path]


def take_image(reference: str, cache: Path, platform: str, registry: RegistrySettings | None = None) -> TakenImage:
    """The image of a job's `environment: {image: …}` for one platform.

    Args:
        cache: a layout of our own, for what comes from a registry.
        registry: the login, where it wants one.

    Raises:
        InvalidInputError: it is for another platform, or can't be read.
        NotFoundError: it isn't there, or a part of it.
        IntegrityError: a manifest is not what its digest says; of the other parts the hub sees that.
        UnreachableError, AuthenticationError, DeniedError: the registry is away, or says no.
    """
    if reference.startswith("oci:"):
        folder, _, digest = reference.removeprefix("oci:").rpartition("@")
        layout = OciLayout(Path(folder).expanduser(), create=False)
        found = parse_digest(digest)
    elif "@" in reference:
        from insitu.images.push import pull_image  # noqa: PLC0415 - most jobs bring no image, and httpx is here anyway

        layout = OciLayout(cache)
        found = pull_image(layout, reference, platform=platform, settings=registry)
    else:
        raise InvalidInputError(
            f"it is not said where the image {reference} is",
            code="image-place",
            hint="write host/name@sha256:…, or oci:/folder@sha256:…",
        )
    return _described(layout, found, platform)


def registry_login(file: str) -> RegistrySettings | None:
    """The login to a registry that a file holds as user:password; none where none is named.

    Raises:
        InvalidInputError: the file can't be read.
    """
    if not file:
        return None
    try:
        user, _, password = Path(file).expanduser().read_text().strip().partition(":")
    except OSError as exc:
        raise InvalidInputError(
            f"the registry's login {file} can't be read", code="registry-auth", why=exc.strerror or ""
        ) from exc
    return RegistrySettings(username=user, password=password)


def _described(layout: OciLayout, digest: Digest, platform: str) -> TakenImage:
    manifest = layout.manifest(digest)
    if "manifests" in manifest:
        digest = choose_platform(manifest, platform).digest
        manifest = layout.manifest(digest)
    check_platform(describe_base(layout, digest), platform)
    parts = [config_of(manifest).digest, *(layer.digest for layer in layers_of(manifest))]
    for part in parts:
        layout.size_of(part)
    blobs = [str(part) for part in dict.fromkeys(parts)]
    return TakenImage(
        ImagePin(digest=digest, blobs=blobs), {part: layout.blob_path(Digest(part)) for part in (digest, *blobs)}
    )
