"""The Merkle tree over a ledger's entries (RFC 9162, section 2.1), and its two proofs.

The chain of hashes shows that nobody changed an entry to whoever reads all of
them. The tree shows it to whoever has one entry, or only two heads:

- *inclusion*: this entry is the n-th of the ledger with this root;
- *consistency*: the ledger with this root begins with the ledger with that one,
  which is what the hub asks for before it countersigns a longer one.

A leaf is hashed with a zero byte before it and a node with a one, so that
neither can be taken for the other. Hashes are SHA-256, 32 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

_SIZE = 32

EMPTY_ROOT = sha256(b"").digest()
"""The root of no entries (RFC 9162, 2.1.1)."""


def leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\x00" + entry).digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


class MerkleTree:
    """Grows by one leaf at a time; answers for itself and for every earlier size of it.

    Holds the hash of each complete subtree: 64 bytes an entry. Appending costs
    two hashes on average, a root or a proof about log2(entries) hashes.
    """

    def __init__(self) -> None:
        self._levels: list[bytearray] = [bytearray()]

    def __len__(self) -> int:
        return len(self._levels[0]) // _SIZE

    def append(self, entry: bytes) -> None:
        """Add an entry's bytes as the next leaf."""
        found = leaf_hash(entry)
        for level in range(len(self._levels) + 1):
            if level == len(self._levels):
                self._levels.append(bytearray())
            row = self._levels[level]
            row += found
            if (len(row) // _SIZE) % 2:
                return
            found = _node_hash(bytes(row[-2 * _SIZE : -_SIZE]), found)

    def root(self, size: int | None = None) -> bytes:
        """The root over the first `size` entries, or over all.

        Raises:
            ValueError: there are not so many.
        """
        size = len(self) if size is None else size
        if not 0 <= size <= len(self):
            raise ValueError("the tree has not so many entries")
        return self._hash_of(0, size) if size else EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """Hashes that lead from entry `index` to the root of the first `size` entries (RFC 9162, 2.1.3.1).

        Raises:
            ValueError: there is no such entry.
        """
        size = len(self) if size is None else size
        if not 0 <= index < size <= len(self):
            raise ValueError("the tree has no such entry")
        return self._path(index, 0, size)

    def consistency_proof(self, old: int, size: int | None = None) -> list[bytes]:
        """Hashes that lead from the root of the first `old` entries to that of the first `size` (RFC 9162, 2.1.4.1).

        Raises:
            ValueError: the tree has not so many entries.
        """
        size = len(self) if size is None else size
        if not 0 <= old <= size <= len(self):
            raise ValueError("the tree has not so many entries")
        return self._subproof(old, 0, size, is_whole=True) if 0 < old < size else []

    def _hash_of(self, begin: int, end: int) -> bytes:
        """The hash of the subtree over entries `begin:end`; `begin` is a multiple of its width."""
        count = end - begin
        level = count.bit_length() - 1
        if count == 1 << level:
            at = (begin >> level) * _SIZE
            return bytes(self._levels[level][at : at + _SIZE])
        middle = begin + _split(count)
        return _node_hash(self._hash_of(begin, middle), self._hash_of(middle, end))

    def _path(self, index: int, begin: int, end: int) -> list[bytes]:
        if end - begin == 1:
            return []
        middle = begin + _split(end - begin)
        if index < middle:
            return [*self._path(index, begin, middle), self._hash_of(middle, end)]
        return [*self._path(index, middle, end), self._hash_of(begin, middle)]

    def _subproof(self, old: int, begin: int, end: int, *, is_whole: bool) -> list[bytes]:
        if old == end:
            return [] if is_whole else [self._hash_of(begin, end)]
        middle = begin + _split(end - begin)
        if old <= middle:
            return [*self._subproof(old, begin, middle, is_whole=is_whole), self._hash_of(middle, end)]
        return [*self._subproof(old, middle, end, is_whole=False), self._hash_of(begin, middle)]


def _split(count: int) -> int:
    """The largest power of two smaller than `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def includes(entry: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Is `entry` the one at `index` of the `size` under `root`? (RFC 9162, 2.1.3.2)"""
    if not 0 <= index < size:
        return False
    here, last, found = index, size - 1, leaf_hash(entry)
    for step in proof:
        if last == 0:
            return False
        if here & 1 or here == last:
            found = _node_hash(step, found)
            while here and not here & 1:
                here, last = here >> 1, last >> 1
        else:
            found = _node_hash(found, step)
        here, last = here >> 1, last >> 1
    return last == 0 and found == root


def extends(old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    """Does the tree of `size` entries under `root` begin with the `old` ones under `old_root`? (RFC 9162, 2.1.4.2)"""
    if not 0 <= old <= size:
        return False
    if old == size:
        return not proof and old_root == root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    steps = list(proof) if old & (old - 1) else [old_root, *proof]
    if not steps:
        return False
    here, last = old - 1, size - 1
    while here & 1:
        here, last = here >> 1, last >> 1
    before = after = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if here & 1 or here == last:
            before, after = _node_hash(step, before), _node_hash(step, after)
            while here and not here & 1:
                here, last = here >> 1, last >> 1
        else:
            after = _node_hash(after, step)
        here, last = here >> 1, last >> 1
    return last == 0 and before == old_root and after == root
