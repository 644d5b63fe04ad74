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

from insitu.domain.errors import UnavailableError
from insitu.wire.ledger import GENESIS, Head, LedgerEntry, read_entries


class Spending:
    """Bytes that left, by job, and by dataset and submitter in a calendar month (UTC)."""

    def __init__(self) -> None:
        self._by_job: defaultdict[str, int] = defaultdict(int)
        self._by_dataset: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._by_submitter: defaultdict[tuple[str, str], int] = defaultdict(int)

    def add(self, entry: LedgerEntry) -> None:
        if entry.kind not in ("batch", "file"):
            return
        month = entry.at.strftime("%Y-%m")
        self._by_job[entry.job_id] += entry.size_bytes
        self._by_submitter[month, entry.submitter] += entry.size_bytes
        for dataset in entry.datasets:
            self._by_dataset[month, dataset.partition("@")[0]] += entry.size_bytes

    def of_job(self, job_id: str) -> int:
        return self._by_job[job_id]

    def of_dataset(self, name: str, at: datetime) -> int:
        return self._by_dataset[at.strftime("%Y-%m"), name]

    def of_submitter(self, fingerprint: str, at: datetime) -> int:
        return self._by_submitter[at.strftime("%Y-%m"), fingerprint]


class Ledger:
    """Append-only; one writer, many readers. `append` returns when the entry is on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.spending = Spending()
        self._batches: defaultdict[tuple[str, int], list[LedgerEntry]] = defaultdict(list)
        self._released: dict[str, int] = {}
        self._files: dict[tuple[str, int, str], LedgerEntry] = {}
        self._frozen = ""
        self._head = Head(0, GENESIS)
        _cut_torn_line(path)
        if path.exists():
            with path.open("rb") as stream:
                for entry in read_entries(stream):
                    self._count(entry)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def close(self) -> None:
        os.close(self._file)

    @property
    def head(self) -> Head:
        with self._lock:
            return self._head

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
            numbered = entry.model_copy(update={"seq": self._head.entries, "prev": self._head.hash})
            line = numbered.as_line()
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
            self._count(numbered)
            return numbered

    def _count(self, entry: LedgerEntry) -> None:
        self._head = Head(entry.seq + 1, entry.hash)
        self.spending.add(entry)
        if entry.kind == "batch":
            self._batches[entry.job_id, entry.attempt].append(entry)
        if entry.kind == "file" and entry.decision == "released":
            self._released[entry.digest] = entry.seq
            self._files[entry.job_id, entry.attempt, entry.name] = entry

    def freeze(self, why: str) -> None:
        """Let nothing leave until a steward has looked: every `append` raises from now on."""
        with self._lock:
            self._frozen = why

    @property
    def frozen(self) -> str:
        """Why nothing leaves, or nothing."""
        return self._frozen

    def file_entry(self, job_id: str, attempt: int, output: str) -> LedgerEntry | None:
        """The entry under which an output was let out, if it was."""
        with self._lock:
            return self._files.get((job_id, attempt, output))

    def batches_of(self, job_id: str, attempt: int) -> list[LedgerEntry]:
        """The batch entries of an attempt, oldest first."""
        with self._lock:
            return list(self._batches[job_id, attempt])

    def entry_of_release(self, digest: str) -> int | None:
        """The number of the entry under which a set of files was released here, if it was."""
        with self._lock:
            return self._released.get(digest)

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
