"""Moves images between a layout and a registry.

Pushing sends only what the registry lacks, and the manifest last: an image is
there whole or not at all. Pulling asks for a digest, and keeps only what has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from insitu.domain.digests import Digest
from insitu.domain.errors import InvalidInputError, UnreachableError
from insitu.domain.images import Descriptor, RegistryReference, parse_reference
from insitu.images.base import choose_platform, config_of, layers_of
from insitu.images.layout import OciLayout, parse_document
from insitu.images.registry import RegistrySettings, RepositoryClient

Progress = Callable[[int, int, str], None]
"""Told (bytes done, bytes in all, what)."""


@dataclass(frozen=True)
class Pushed:
    reference: str  # host/name:tag
    digest: Digest
    sent_blobs: int
    sent_bytes: int
    manifest_sent: bool  # False: the registry had this digest under this tag already

    @property
    def by_digest(self) -> str:
        return f"{self.reference.rpartition(':')[0]}@{self.digest}"


def push_image(
    layout: OciLayout,
    reference: str,
    destination: str,
    *,
    settings: RegistrySettings | None = None,
    mount_from: str | None = None,
    progress: Progress = lambda _done, _all, _what: None,
) -> Pushed:
    """Send an image to a registry; what is there already is not sent again.

    Args:
        layout: where it is.
        reference: its tag or digest there.
        destination: `host[:port]/name[:tag]`; without a tag, "latest".
        settings: login and so on.
        mount_from: another repository of that registry that may have the layers.

    Raises:
        NotFoundError: the layout has no such image.
        IntegrityError: a blob in the layout is damaged; it is not sent.
        UnreachableError, AuthenticationError, DeniedError: the registry is away, or says no.
    """
    target = parse_reference(destination)
    tag = target.tag or "latest"
    named = layout.resolve(reference)
    document = layout.manifest(named.digest)
    raw = layout.read(named.digest)
    # The config after the layers: some registries look for what it speaks of.
    blobs = list(dict.fromkeys((blob.digest, blob.size_bytes) for blob in (*layers_of(document), config_of(document))))
    total = sum(size for _, size in blobs)
    with RepositoryClient(target.host, target.name, settings) as repository:
        done = sent_blobs = sent_bytes = 0
        for digest, size_bytes in blobs:
            if _is_there(repository, digest, mount_from):
                done += size_bytes
                progress(done, total, "already there")
                continue
            layout.check(digest)

            def sent(count: int, digest: Digest = digest) -> None:
                nonlocal done
                done += count
                progress(done, total, digest)

            repository.upload_blob(layout.blob_path(digest), digest, sent)
            sent_blobs, sent_bytes = sent_blobs + 1, sent_bytes + size_bytes
        is_new = repository.manifest_digest(tag) != named.digest
        if is_new:
            repository.put_manifest(raw, str(document.get("mediaType")), tag)
    return Pushed(f"{target.host}/{target.name}:{tag}", named.digest, sent_blobs, sent_bytes, is_new)


def pull_image(
    layout: OciLayout,
    source: str,
    *,
    platform: str = "x86_64-linux",
    settings: RegistrySettings | None = None,
    tag: str | None = None,
    progress: Progress = lambda _done, _all, _what: None,
) -> Digest:
    """Fetch an image by digest into a layout; returns the manifest's digest (of several: the platform's).

    Raises:
        InvalidInputError: `source` names no digest: a tag may be another image tomorrow.
        NotFoundError: the registry doesn't have it, or not for the platform.
        IntegrityError: what came is not what the digests say. None of it is kept.
        UnreachableError, AuthenticationError, DeniedError: the registry is away, or says no.
    """
    wanted = parse_reference(source)
    with RepositoryClient(wanted.host, wanted.name, settings) as repository:
        if wanted.digest is None:
            raise InvalidInputError(
                f"{source} is named by a tag alone",
                code="digest-needed",
                why="a tag may be another image tomorrow",
                hint=_by_digest(repository, wanted),
            )
        raw, media_type, digest = repository.manifest(wanted.digest)
        document = parse_document(raw, what=f"the manifest of {source}")
        if "manifests" in document:
            raw, media_type, digest = repository.manifest(choose_platform(document, platform).digest)
            document = parse_document(raw, what=f"the manifest of {source}")
        blobs = (*layers_of(document), config_of(document))
        total, done = sum(blob.size_bytes for blob in blobs), 0
        for blob in blobs:
            if not layout.has(blob.digest):
                _fetch(layout, repository, blob)
            done += blob.size_bytes
            progress(done, total, blob.digest)
    layout.put_raw_manifest(raw, str(document.get("mediaType", media_type)), tag=tag)
    return digest


def _fetch(layout: OciLayout, repository: RepositoryClient, blob: Descriptor) -> None:
    with repository.blob(blob.digest, blob.size_bytes) as chunks:
        layout.put_blob(chunks, blob.media_type, expected=blob.digest)


def _is_there(repository: RepositoryClient, digest: Digest, mount_from: str | None) -> bool:
    return repository.has_blob(digest) or (mount_from is not None and repository.mount_blob(digest, mount_from))


def _by_digest(repository: RepositoryClient, wanted: RegistryReference) -> str:
    try:
        found = repository.manifest_digest(wanted.tag or "latest")
    except UnreachableError:
        found = None
    return f"today that is {wanted.host}/{wanted.name}@{found}" if found else "name it as host/name@sha256:…"
