"""The tree over a ledger: its roots are those of RFC 9162, and its proofs prove what they say and nothing else."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.wire.merkle import EMPTY_ROOT, MerkleTree, extends, includes, leaf_hash


def tree_of(count: int) -> MerkleTree:
    tree = MerkleTree()
    for number in range(count):
        tree.append(b"entry %d" % number)
    return tree


def defined_root(entries: list[bytes]) -> bytes:
    """MTH of RFC 9162, section 2.1.1, word by word."""
    if not entries:
        return sha256(b"").digest()
    if len(entries) == 1:
        return sha256(b"\x00" + entries[0]).digest()
    k = 1
    while k * 2 < len(entries):
        k *= 2
    return sha256(b"\x01" + defined_root(entries[:k]) + defined_root(entries[k:])).digest()


def test_the_root_is_the_one_that_the_rfc_defines_for_every_size() -> None:
    tree = tree_of(70)
    entries = [b"entry %d" % number for number in range(70)]
    for size in range(71):
        assert tree.root(size) == defined_root(entries[:size])
    assert tree.root(0) == EMPTY_ROOT


def test_known_answers() -> None:
    """Of the test vectors that Certificate Transparency implementations share (seven leaves of RFC 6962's examples)."""
    leaves = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    tree = MerkleTree()
    for leaf in leaves:
        tree.append(bytes.fromhex(leaf))
    assert tree.root(1).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert tree.root(8).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


@given(st.integers(1, 200), st.data())
def test_an_entry_is_proved_to_be_there_and_no_other(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    tree = tree_of(size)
    proof = tree.inclusion_proof(index)
    entry = b"entry %d" % index
    assert includes(entry, index, size, proof, tree.root())
    assert not includes(entry + b"!", index, size, proof, tree.root())
    assert not includes(entry, index, size, proof, leaf_hash(b"another root"))
    other = data.draw(st.integers(0, size + 1))
    if other != index:
        assert not includes(entry, other, size, proof, tree.root())
    assert not includes(entry, index, size, [*proof, leaf_hash(b"more")], tree.root())
    if proof:
        assert not includes(entry, index, size, proof[:-1], tree.root())


@given(st.integers(0, 200), st.integers(0, 200))
def test_a_longer_ledger_is_proved_to_begin_with_the_shorter(first: int, second: int) -> None:
    old, size = sorted((first, second))
    tree = tree_of(size)
    proof = tree.consistency_proof(old)
    assert extends(old, tree.root(old), size, tree.root(), proof)
    assert not extends(old, leaf_hash(b"x"), size, tree.root(), proof)
    if old:  # everything begins with nothing
        assert not extends(old, tree.root(old), size, leaf_hash(b"x"), proof)
    assert not extends(old, tree.root(old), size, tree.root(), [*proof, leaf_hash(b"more")])
    if proof:
        assert not extends(old, tree.root(old), size, tree.root(), proof[:-1])


@given(st.integers(2, 120), st.data())
def test_a_rewritten_ledger_has_no_proof(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, size))
    changed = data.draw(st.integers(0, old - 1))
    rewritten = MerkleTree()
    for number in range(size):
        rewritten.append(b"something else" if number == changed else b"entry %d" % number)
    assert not extends(old, tree_of(old).root(), size, rewritten.root(), rewritten.consistency_proof(old))


def test_what_is_not_there_can_not_be_asked_for() -> None:
    tree = tree_of(3)
    for ask in (
        lambda: tree.root(4),
        lambda: tree.inclusion_proof(3),
        lambda: tree.inclusion_proof(-1),
        lambda: tree.consistency_proof(4),
        lambda: tree.consistency_proof(-1),
    ):
        with pytest.raises(ValueError, match="the tree has"):
            ask()
