"""Images, bases and locks, as values.

    lock (pylock.toml, signed by digest) ──► environment ──┐
    base (root file system, an OCI image) ─────────────────┼──► image = base + environment + serving + model + config
    released model (signed by digest) ─────────────────────┘

Everything is named by digest: a base by the digest of its manifest, a lock by
the digest of its bytes, an image by the digest of its manifest. A tag is a name
that may move; nothing here trusts one.

Forms follow the OCI image specification 1.1 (github.com/opencontainers/image-spec)
and, for references, the distribution specification 1.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from insitu.domain.digests import Digest, parse_digest
from insitu.domain.errors import InvalidInputError

PLATFORMS: Mapping[str, str] = {"x86_64-linux": "amd64", "aarch64-linux": "arm64"}
"""Our name of a platform → the architecture that OCI (and Go) calls it."""

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?")


@dataclass(frozen=True)
class Descriptor:
    """What OCI says of a blob: enough to fetch it and to know that it is the right one."""

    media_type: str
    digest: Digest
    size_bytes: int
    annotations: Mapping[str, str] = field(default_factory=dict[str, str])

    def as_oci(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size_bytes}
        if self.annotations:
            fields["annotations"] = dict(self.annotations)
        return fields


def descriptor_from_oci(fields: dict[str, Any], *, what: str) -> Descriptor:
    """Read a descriptor that somebody else wrote.

    Raises:
        InvalidInputError: it lacks a field, or one has the wrong form. `what` names it for people.
    """
    match fields:
        case {"mediaType": str(media_type), "digest": str(digest), "size": int(size)} if size >= 0:
            return Descriptor(
                media_type, parse_digest(digest), size, _strings(cast("object", fields.get("annotations")))
            )
        case _:
            raise InvalidInputError(f"{what} is not an OCI descriptor", why="it needs mediaType, digest and size")


def _strings(given: object) -> Mapping[str, str]:
    if not isinstance(given, dict):
        return {}
    return {str(key): str(value) for key, value in cast("dict[object, object]", given).items()}


@dataclass(frozen=True)
class RegistryReference:
    """Where an image lies in a registry: `host[:port]/name[:tag][@digest]`."""

    host: str
    name: str
    tag: str | None = None
    digest: Digest | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.host}/{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")


def parse_reference(text: str) -> RegistryReference:
    """`text` as a place in a registry. The host is never guessed: `python:3.11` alone is refused.

    Raises:
        InvalidInputError: it doesn't have the form `host[:port]/name[:tag][@sha256:…]`.
    """
    rest, at, digest = text.removeprefix("docker://").partition("@")
    host, slash, path = rest.partition("/")
    name, colon, tag = path.partition(":")
    looks_like_host = "." in host or ":" in host or host == "localhost"
    good = slash and looks_like_host and _HOST.fullmatch(host) and _NAME.fullmatch(name)
    if not good or (colon and not _TAG.fullmatch(tag)):
        raise InvalidInputError(
            f"{text[:200]!r} is not a reference to an image in a registry",
            hint="write host[:port]/name:tag or host[:port]/name@sha256:…, e.g. docker.io/library/python@sha256:…",
        )
    return RegistryReference(host, name, tag or None, parse_digest(digest) if at else None)


def check_tag(tag: str) -> str:
    """`tag` itself when a layout may carry it: `name:tag` with the letters of the distribution specification.

    Raises:
        InvalidInputError: it has others.
    """
    name, colon, version = tag.partition(":")
    if not _NAME.fullmatch(name.lower()) or (colon and not _TAG.fullmatch(version)):
        raise InvalidInputError(f"{tag[:200]!r} can't name an image", hint="use a name such as breast-cancer:1")
    return tag


@dataclass(frozen=True)
class LockedWheel:
    """One file that a lock accepts: whatever has this hash, wherever it comes from."""

    filename: str
    sha256: str  # hex
    url: str = ""  # as the lock has it; empty when the lock names a path
    size_bytes: int | None = None


@dataclass(frozen=True)
class LockedPackage:
    name: str
    version: str
    wheels: tuple[LockedWheel, ...]
    marker: str = ""  # PEP 508 environment marker, empty: always


@dataclass(frozen=True)
class Lock:
    """A parsed pylock.toml. `digest` is that of its bytes: what the submitter signed."""

    digest: Digest
    packages: tuple[LockedPackage, ...]
    requires_python: str = ""


@dataclass(frozen=True)
class BaseImage:
    """A root file system that jobs and services may run on, in some OCI layout."""

    digest: Digest  # of the manifest: the base's name
    platform: str
    size_bytes: int  # of its layers as stored
    layers: tuple[Digest, ...]
    reused: bool = False  # it was there already: nothing was built or fetched


@dataclass(frozen=True)
class Image:
    """What `build_image` wrote into a layout."""

    reference: str  # the tag in the layout, e.g. breast-cancer:1
    digest: Digest  # of the manifest
    size_bytes: int  # manifest, config and layers as stored
    layers: tuple[Descriptor, ...]
    reused_layers: int = 0  # layers that the layout had already
