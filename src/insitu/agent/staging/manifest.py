"""What a dataset version is made of: its objects, each by name, size, ETag and keyed digest. Never leaves the site.

A file of its own beside `version.json`: with a hundred thousand objects it is some
twenty megabytes, and is read only where bytes are staged, not for each job.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from insitu.agent.folder import write_atomic
from insitu.agent.staging.digests import BLOCK_BYTES, NEWEST, SCHEMES, Scheme
from insitu.domain.errors import IntegrityError

_FORMAT = 2
_OLDER_FORMAT = 1
"""Named no scheme, since there was but one: "hmac-sha256"."""


@dataclass(frozen=True, slots=True)
class ManifestObject:
    """One object of a version, as it was when the version was added."""

    name: str
    """In the datastore, below the datastore's own prefix."""
    size_bytes: int
    etag: str
    digest: str
    """Keyed, hex; names it in the cache."""
    leaves: tuple[bytes, ...] = ()
    """Digests of its blocks; left out where it has only one."""
    scheme: Scheme = NEWEST
    """Of its digests."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The objects of a version, by name in ascending order."""

    objects: tuple[ManifestObject, ...]

    @property
    def size_bytes(self) -> int:
        return sum(one.size_bytes for one in self.objects)

    def digest(self, key: bytes) -> str:
        """Of the version: names its objects, their order and their bytes; keyed."""
        listing = orjson.dumps([[one.name, one.size_bytes, one.digest] for one in self.objects])
        return "sha256:" + hmac.digest(key, b"insitu-version/1\n" + listing, "sha256").hex()

    def save(self, path: Path) -> None:
        rows = [[one.name, one.size_bytes, one.etag, one.digest, b"".join(one.leaves).hex()] for one in self.objects]
        [scheme] = {one.scheme for one in self.objects} or {NEWEST}
        head = {"format": _FORMAT, "block_bytes": BLOCK_BYTES, "scheme": scheme}
        write_atomic(path, orjson.dumps({**head, "objects": rows}))


def load_manifest(path: Path) -> Manifest:
    """The manifest in `path`.

    Raises:
        IntegrityError: there is none, or it can't be read.
    """
    try:
        document = orjson.loads(path.read_bytes())
        scheme = SCHEMES[0] if document["format"] == _OLDER_FORMAT else document["scheme"]
        if document["format"] not in (_OLDER_FORMAT, _FORMAT) or document["block_bytes"] != BLOCK_BYTES:
            raise ValueError("another format")
        if scheme not in SCHEMES:
            raise ValueError("another scheme")
        return Manifest(tuple(_object(row, scheme) for row in document["objects"]))
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise IntegrityError(
            "the manifest of a dataset version can't be read",
            code="manifest-damaged",
            hint="add the dataset again as a new version",
        ) from exc


def _object(row: Sequence[object], scheme: Scheme) -> ManifestObject:
    name, size, etag, digest, leaves = row
    packed = bytes.fromhex(str(leaves))
    return ManifestObject(
        str(name),
        int(str(size)),
        str(etag),
        str(digest),
        tuple(packed[at : at + 32] for at in range(0, len(packed), 32)),
        scheme,
    )
