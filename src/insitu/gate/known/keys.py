"""The keys of an index: what is stored in it can't be guessed without them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from insitu.gate.known.fingerprints import HashKey

SETS = ("text", "bytes", "runs")
"""The fingerprints that an index has."""


@dataclass(frozen=True)
class IndexKeys:
    """One key for each kind of hash, all derived from the index's own."""

    cells: HashKey
    text: HashKey
    bytes: HashKey
    runs: HashKey

    @staticmethod
    def of(key: bytes) -> IndexKeys:
        return IndexKeys(*(HashKey.of(key, purpose) for purpose in (b"cells", b"text", b"bytes", b"runs")))


def key_of_index(site_key: bytes) -> bytes:
    """What is stored in the index: derived from the site's key, which it does not tell."""
    return hashlib.blake2b(b"cells", key=site_key[:64], digest_size=32, person=b"insitu-index").digest()
