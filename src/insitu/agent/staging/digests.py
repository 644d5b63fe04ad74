"""Keyed digests of objects, made of blocks, so that they can be read in parallel and checked in parts.

    leaf  = HMAC-SHA-256(leaf key, block of 8 MiB)
    root  = HMAC-SHA-256(root key, length || leaf 1 || leaf 2 || …)

The root names an object at this site: in the manifest of a version and in the cache.
Keyed with the site's own key, it can't be used to guess what a small object holds.
With the leaves an object is fetched in any order, a broken transfer goes on behind
the last good block, and a range can be checked without the rest (a tree of depth one,
after Merkle 1987; HMAC: RFC 2104).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BLOCK_BYTES = 8 << 20

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True)
class DigestKeys:
    """Both keys, derived from the site's one."""

    leaf: bytes
    root: bytes

    @staticmethod
    def of(key: bytes) -> DigestKeys:
        return DigestKeys(*(hmac.digest(key, b"insitu-object/" + part, "sha256") for part in (b"leaf", b"root")))

    def leaf_to_come(self) -> hmac.HMAC:
        """Of a block that is handed over piece by piece. Lets other threads run while it takes one in."""
        return hmac.new(self.leaf, digestmod=hashlib.sha256)

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
        block = bytearray(BLOCK_BYTES)
        view = memoryview(block)
        with path.open("rb", buffering=0) as stream:
            while filled := _fill(stream, view):
                leaves.append(self.leaf_of(view[:filled]))
                size += filled
        return self.root_of(size, leaves)


def blocks_of(size_bytes: int) -> int:
    """How many blocks an object has; none when it is empty."""
    return -(-size_bytes // BLOCK_BYTES)


def _fill(stream: object, view: memoryview) -> int:
    filled = 0
    while filled < len(view) and (more := stream.readinto(view[filled:])):  # type: ignore[attr-defined]
        filled += more
    return filled
