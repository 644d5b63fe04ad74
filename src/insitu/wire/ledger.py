"""The ledger's entries and their chain: what left, written before it leaves.

Entry n holds the hash of entry n-1, so no entry can be changed, dropped or moved
without every later hash changing too. Entries hold counts, digests, rules and
verdicts, never values. The chain can be checked offline with this module alone.
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

GENESIS = Digest("sha256:" + "0" * 64)

EntryKind = Literal["opened", "batch", "file", "verdict", "status", "catalogue"]


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
    size_bytes: int = Field(default=0, ge=0)
    digest: str = ""  # of exactly the bytes that leave
    first_seq: int = 0  # range of event sequence numbers, for a batch
    last_seq: int = 0
    policy_version: int = 0
    reviewer: str = ""
    ceiling_bytes: int = Field(default=0, ge=0)  # what the bytes could carry beyond what the policy asked for
    run_envelope: str = ""  # digest of the run envelope that covered the job, if one did
    prev: str
    """Hash of the entry before; `GENESIS` for the first."""

    @property
    def hash(self) -> Digest:
        return digest_of(rfc8785.dumps(self.model_dump(mode="json")))

    def as_line(self) -> bytes:
        return rfc8785.dumps(self.model_dump(mode="json")) + b"\n"


@dataclass(frozen=True)
class Head:
    """Where a ledger stands: how many entries it has, and the hash of the last."""

    entries: int
    hash: Digest


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
    head = Head(0, GENESIS)
    for entry in read_entries(lines):
        head = Head(entry.seq + 1, entry.hash)
    return head


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
