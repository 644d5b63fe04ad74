"""Keyed digests of objects, made of blocks, so that they can be read in parallel and checked in parts.

    leaf  = BLAKE3(leaf key, block of 8 MiB)
    root  = HMAC-SHA-256(root key, length || leaf 1 || leaf 2 || …)

The root names an object at this site: in the manifest of a version and in the cache.
Keyed with the site's own key, it can't be used to guess what a small object holds.
With the leaves an object is fetched in any order, a broken transfer goes on behind
the last good block, and a range can be checked without the rest (a tree of depth one,
after Merkle 1987; HMAC: RFC 2104; BLAKE3, keyed: O'Connor et al. 2020, 2.3).

Versions that were added before have leaves of HMAC-SHA-256, and keep them: a manifest names its
scheme, and each scheme has keys of its own.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Protocol, get_args

from blake3 import blake3

BLOCK_BYTES = 8 << 20
_PIECE = 512 << 10  # of a file; stays in a processor's second cache between the disk's copy and the digest

Buffer = bytes | bytearray | memoryview
Scheme = Literal["hmac-sha256", "blake3"]
"""How leaves are made."""
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
NEWEST: Scheme = "blake3"
"""Of what is added from now on."""


class Hasher(Protocol):
    """Of a block that is handed over piece by piece. Lets other threads run while it takes one in."""

    def update(self, data: Buffer, /) -> object: ...
    def digest(self) -> bytes: ...


@dataclass(frozen=True)
class Digests:
    """The digests of one scheme, with its keys."""

    leaf_to_come: Callable[[], Hasher] = field(repr=False)
    root: bytes = field(repr=False)

    def leaf_of(self, *pieces: Buffer) -> bytes:
        """Of one block, in one piece or several; 32 bytes. Lets other threads run meanwhile."""
        hasher = self.leaf_to_come()
        for piece in pieces:
            hasher.update(piece)
        return hasher.digest()

    def root_of(self, size_bytes: int, leaves: Sequence[bytes]) -> str:
        """Of a whole object, as hex."""
        return hmac.digest(self.root, size_bytes.to_bytes(8, "big") + b"".join(leaves), "sha256").hex()

    def of_file(self, path: Path) -> str:
        """Of a file's bytes as they are now.

        Raises:
            OSError: it can't be read.
        """
        leaves: list[bytes] = []
        size = 0
        view = memoryview(bytearray(min(_PIECE, BLOCK_BYTES)))
        with path.open("rb", buffering=0) as stream:
            while True:
                leaf, filled = self.leaf_to_come(), 0
                while filled < BLOCK_BYTES and (more := stream.readinto(view[: BLOCK_BYTES - filled])):
                    leaf.update(view[:more])
                    filled += more
                if not filled:
                    return self.root_of(size, leaves)
                leaves.append(leaf.digest())
                size += filled


@dataclass(frozen=True)
class DigestKeys:
    """The keys of all schemes, derived from the site's one."""

    schemes: Mapping[Scheme, Digests]

    @staticmethod
    def of(key: bytes) -> DigestKeys:
        def derived(part: bytes) -> bytes:
            return hmac.digest(key, b"insitu-object/" + part, "sha256")

        older, newer = derived(b"leaf"), derived(b"blake3/leaf")
        schemes: dict[Scheme, Digests] = {
            "hmac-sha256": Digests(lambda: hmac.new(older, digestmod=hashlib.sha256), derived(b"root")),
            "blake3": Digests(lambda: blake3(key=newer), derived(b"blake3/root")),
        }
        return DigestKeys(MappingProxyType(schemes))

    def under(self, scheme: Scheme) -> Digests:
        return self.schemes[scheme]

    @property
    def newest(self) -> Digests:
        return self.under(NEWEST)


def blocks_of(size_bytes: int) -> int:
    """How many blocks an object has; none when it is empty."""
    return -(-size_bytes // BLOCK_BYTES)
