"""The site's ledger on disk: an entry is on the platter before its bytes leave.

Opening it checks the whole chain and adds up what was spent, so budgets survive
restarts without a second record. A torn last line (power lost while writing) is
cut off: what it would have recorded was never sent.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from datetime import datetime
from pathlib import Path

from insitu.domain.digests import Digest, digest_of
from insitu.domain.errors import UnavailableError
from insitu.wire.ledger import GENESIS, EntryKind, Head, LedgerEntry, read_entries, root_digest
from insitu.wire.merkle import MerkleTree


class Spending:
    """What left: bytes by job, and by dataset and submitter in a calendar month (UTC); of releases also their ceilings."""

    def __init__(self) -> None:
        self._by_job: defaultdict[str, int] = defaultdict(int)
        self._by_dataset: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._by_submitter: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._ceilings_by_dataset: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._ceilings_by_submitter: defaultdict[tuple[str, str], int] = defaultdict(int)

    def add(self, entry: LedgerEntry) -> None:
        if entry.kind not in ("batch", "file", "card"):
            return
        month = entry.at.strftime("%Y-%m")
        self._by_job[entry.job_id] += entry.size_bytes
        self._by_submitter[month, entry.submitter] += entry.size_bytes
        self._ceilings_by_submitter[month, entry.submitter] += entry.ceiling_bytes
        # Two versions of one dataset are one dataset: what left about it is counted once.
        for name in {label.partition("@")[0] for label in entry.datasets}:
            self._by_dataset[month, name] += entry.size_bytes
            self._ceilings_by_dataset[month, name] += entry.ceiling_bytes

    def of_job(self, job_id: str) -> int:
        return self._by_job[job_id]

    def of_dataset(self, name: str, at: datetime) -> int:
        return self._by_dataset[at.strftime("%Y-%m"), name]

    def of_submitter(self, fingerprint: str, at: datetime) -> int:
        return self._by_submitter[at.strftime("%Y-%m"), fingerprint]

    def ceilings_of_dataset(self, name: str, at: datetime) -> int:
        return self._ceilings_by_dataset[at.strftime("%Y-%m"), name]

    def ceilings_of_submitter(self, fingerprint: str, at: datetime) -> int:
        return self._ceilings_by_submitter[at.strftime("%Y-%m"), fingerprint]


class Ledger:
    """Append-only; one writer, many readers. `append` returns when the entry is on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.spending = Spending()
        self._batches: defaultdict[tuple[str, int], list[LedgerEntry]] = defaultdict(list)
        self._released: dict[str, int] = {}
        self._residents: dict[str, int] = {}
        self._outputs: dict[tuple[str, str, int, str], LedgerEntry] = {}
        self._frozen = ""
        self._tree = MerkleTree()
        self._last = GENESIS
        _cut_torn_line(path)
        if path.exists():
            with path.open("rb") as stream:
                for entry in read_entries(stream):
                    self._count(entry, entry.canonical)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def close(self) -> None:
        os.close(self._file)

    @property
    def head(self) -> Head:
        with self._lock:
            return Head(len(self._tree), self._last, root_digest(self._tree))

    def root_at(self, entries: int) -> Digest | None:
        """The root when there were so many entries; None: there never were."""
        with self._lock:
            return root_digest(self._tree, entries) if entries <= len(self._tree) else None

    def consistency(self, since: int, entries: int) -> list[str]:
        """The proof, in hex, that the ledger of `entries` begins with its first `since`; empty where there is none."""
        with self._lock:
            if not 0 <= since <= entries <= len(self._tree):
                return []
            return [step.hex() for step in self._tree.consistency_proof(since, entries)]

    def append(self, entry: LedgerEntry) -> LedgerEntry:
        """Give `entry` its number and the hash before it, write it, and wait for the disk.

        Raises:
            UnavailableError: the disk refused. Nothing that the entry records may leave.
        """
        with self._lock:
            if self._frozen:
                raise UnavailableError(
                    "nothing leaves until the ledger has been reconciled",
                    code="ledger-frozen",
                    why=self._frozen,
                    hint="a steward compares it with the hub's countersigned head: `insitu ledger verify`",
                )
            numbered = entry.model_copy(update={"seq": len(self._tree), "prev": self._last})
            canonical = numbered.canonical  # three things are made of it, and it takes longer than all of them
            line = canonical + b"\n"
            size_bytes = os.fstat(self._file).st_size
            try:
                written = os.write(self._file, line)
                if written != len(line):
                    raise OSError(28, "no space left on device")
                os.fdatasync(self._file)
            except OSError as exc:
                # Half an entry would break the chain for every later one.
                os.ftruncate(self._file, size_bytes)
                raise UnavailableError(
                    "the ledger can't be written, so nothing leaves",
                    code="ledger-write",
                    why=exc.strerror or "the disk refused",
                    hint=f"free space on the disk of {self._path.parent}; what waits is sent then",
                ) from exc
            self._count(numbered, canonical)
            return numbered

    def _count(self, entry: LedgerEntry, canonical: bytes) -> None:
        self._tree.append(canonical)
        self._last = digest_of(canonical)
        self.spending.add(entry)
        if entry.kind == "batch":
            self._batches[entry.job_id, entry.attempt].append(entry)
        if entry.kind == "file" and entry.decision == "released":
            self._released[entry.digest] = entry.seq
        if entry.kind == "card":
            self._residents[entry.digest] = entry.seq
        if entry.kind in ("file", "card"):
            self._outputs[entry.kind, entry.job_id, entry.attempt, entry.name] = entry

    def freeze(self, why: str) -> None:
        """Let nothing leave until a steward has looked: every `append` raises from now on."""
        with self._lock:
            self._frozen = why

    @property
    def frozen(self) -> str:
        """Why nothing leaves, or nothing."""
        return self._frozen

    def output_entry(self, kind: EntryKind, job_id: str, attempt: int, output: str) -> LedgerEntry | None:
        """The newest entry of a kind on an output: of `file` if it was let out, of `card` if its card was."""
        with self._lock:
            return self._outputs.get((kind, job_id, attempt, output))

    def files_of(self, job_id: str) -> list[LedgerEntry]:
        """The entries under which outputs of a job were let out."""
        with self._lock:
            found = [entry for (kind, job, _, _), entry in self._outputs.items() if (kind, job) == ("file", job_id)]
        return [entry for entry in found if entry.decision == "released"]

    def batches_of(self, job_id: str, attempt: int) -> list[LedgerEntry]:
        """The batch entries of an attempt, oldest first."""
        with self._lock:
            return list(self._batches[job_id, attempt])

    def entry_of_release(self, digest: str) -> int | None:
        """The number of the entry under which a set of files was released here, if it was."""
        with self._lock:
            return self._released.get(digest)

    def entry_of_resident(self, digest: str) -> int | None:
        """The number of the entry under which the card of a resident model left, if it did."""
        with self._lock:
            return self._residents.get(digest)

    def entries(self) -> list[LedgerEntry]:
        """All entries, read back from the disk and checked."""
        with self._path.open("rb") as stream:
            return list(read_entries(stream))


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb+") as stream:
        data = stream.read()
        end = data.rfind(b"\n") + 1
        if end != len(data):
            stream.truncate(end)
            stream.flush()
            os.fsync(stream.fileno())
