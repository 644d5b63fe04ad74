"""The ledger's entries and their chain: what left, written before it leaves.

Entry n holds the hash of entry n-1, so no entry can be changed, dropped or moved
without every later hash changing too. Over the entries stands a Merkle tree
(`merkle.py`), whose root is in the head: so one entry, or a shorter ledger, can
be shown to be part of a longer one. Entries hold counts, digests, rules and
verdicts, never values. All of it can be checked offline with these two modules.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import rfc8785
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from insitu.domain.digests import Digest, digest_of
from insitu.domain.errors import IntegrityError
from insitu.wire.merkle import MerkleTree

GENESIS = Digest("sha256:" + "0" * 64)

_LATER = frozenset({"ceiling_bytes", "run_envelope", "sizes"})
"""Fields that came after the first ledgers were written: left out while empty, so that those still verify."""

EntryKind = Literal["opened", "batch", "file", "card", "verdict", "status", "catalogue"]


class LedgerEntry(BaseModel):
    """One line of the ledger."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seq: int = Field(ge=0)
    at: AwareDatetime
    kind: EntryKind
    job_id: str = ""
    attempt: int = 0
    name: str = ""  # output, file or class of event
    datasets: list[str] = Field(default_factory=list[str])  # name@version
    submitter: str = ""  # fingerprint
    decision: str = ""
    rule: str = ""
    counts: dict[str, int] = Field(default_factory=dict[str, int])  # per kind of event
    sizes: dict[str, int] = Field(default_factory=dict[str, int])  # bytes of each kind that counts against budgets
    size_bytes: int = Field(default=0, ge=0)
    digest: str = ""  # of exactly the bytes that leave; of a card: of the model that stays; of a verdict: as signed
    first_seq: int = 0  # range of event sequence numbers, for a batch
    last_seq: int = 0
    policy_version: int = 0
    reviewer: str = ""
    ceiling_bytes: int = Field(default=0, ge=0)  # what the bytes could carry beyond what the policy asked for
    run_envelope: str = ""  # digest of the run envelope that covered the job, if one did
    prev: str
    """Hash of the entry before; `GENESIS` for the first."""

    @property
    def canonical(self) -> bytes:
        """What is hashed: RFC 8785 JSON, without the later fields where they say nothing."""
        fields = self.model_dump(mode="json")
        return rfc8785.dumps({key: value for key, value in fields.items() if value or key not in _LATER})

    @property
    def hash(self) -> Digest:
        return digest_of(self.canonical)

    def as_line(self) -> bytes:
        return self.canonical + b"\n"

    def is_about(self, dataset: str = "", job: str = "") -> bool:
        """Of this dataset (`name` or `name@version`) and this job; an empty one is any."""
        names = {label.partition("@")[0] for label in self.datasets} | set(self.datasets)
        return (not dataset or dataset in names) and (not job or self.job_id == job)


@dataclass(frozen=True)
class Head:
    """Where a ledger stands: how many entries it has, the hash of the last, and the root of the tree over all."""

    entries: int
    hash: Digest
    root: Digest


def read_entries(lines: Iterable[bytes]) -> Iterator[LedgerEntry]:
    """Parse and check a ledger's lines, in order.

    Raises:
        IntegrityError: a line is not an entry, or the chain is broken there.
    """
    previous = GENESIS
    for number, line in enumerate(lines):
        entry = _parse(line, number)
        if entry.seq != number or entry.prev != previous:
            raise IntegrityError(
                f"the ledger is broken at entry {number}",
                code="ledger-broken",
                why="its number or the hash of the entry before it does not fit",
                hint="compare it with the head that the hub countersigned; keep the file as evidence",
                rule="hash-chain",
            )
        previous = entry.hash
        yield entry


def verify(lines: Iterable[bytes]) -> Head:
    """The head of a ledger whose chain holds.

    Raises:
        IntegrityError: it doesn't.
    """
    return read_ledger(lines).head


@dataclass(frozen=True)
class ReadLedger:
    """A ledger whose chain holds, with the tree over it, for proofs."""

    head: Head
    tree: MerkleTree


def read_ledger(lines: Iterable[bytes]) -> ReadLedger:
    """All of a ledger.

    Raises:
        IntegrityError: its chain doesn't hold.
    """
    tree, last = MerkleTree(), GENESIS
    for entry in read_entries(lines):
        tree.append(entry.canonical)
        last = entry.hash
    return ReadLedger(Head(len(tree), last, root_digest(tree)), tree)


def root_digest(tree: MerkleTree, entries: int | None = None) -> Digest:
    """The root over the first `entries`, or over all, as it is written down."""
    return Digest(f"sha256:{tree.root(entries).hex()}")


def _parse(line: bytes, number: int) -> LedgerEntry:
    try:
        document: Any = json.loads(line)
        entry = LedgerEntry.model_validate(document)
    except (ValueError, ValidationError) as exc:
        raise IntegrityError(
            f"line {number} of the ledger is not an entry", code="ledger-broken", rule="hash-chain"
        ) from exc
    if entry.as_line().rstrip(b"\n") != line.rstrip(b"\n"):
        raise IntegrityError(
            f"line {number} of the ledger is not in canonical form", code="ledger-broken", rule="hash-chain"
        )
    return entry
