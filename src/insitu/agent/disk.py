"""How much of the site's disk a job takes, and when that ends it.

A job may write to its outputs as long as it runs, and every site has one disk. So each
running job is looked at now and then, and ended when it has more than the policy's
`sandbox.disk`; it is looked at once more when it has ended by itself. One file alone is
bounded by the kernel (`RLIMIT_FSIZE`). Counted are allocated blocks, so a sparse file
counts as what it takes, and a hard-linked one once.

Looking is bounded: it stops at the first byte or entry too many, and what can't be
counted (folders nested too deep, or closed to us) counts as too much. A file that was
unlinked while open is in no folder; what it takes shows in the disk's free space,
of which `sandbox.free` is kept back: for the ledger, and for whoever has to clean up.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from insitu.agent.spare_threads import SpareThreads
from insitu.domain.errors import DeniedError, InsituError, UnavailableError
from insitu.domain.quantities import format_bytes
from insitu.gate.policy.values import SandboxRules

MOST_ENTRIES = 200_000
_MOST_DEPTH = 64
_BLOCK = 512  # what st_blocks counts in, whatever the disk's own blocks are (stat(2))
_PAUSE_S = 1.0
_SHARE = 20  # pauses are so many times as long as a look took: at most 5 % of a processor


@dataclass(frozen=True)
class Taken:
    """What lies below a folder, counted up to the first thing too many."""

    size_bytes: int
    entries: int
    uncounted: str = ""
    """Why some of it could not be counted."""


def taken_by(folder: Path, *, most_bytes: int, most_entries: int = MOST_ENTRIES) -> Taken:
    """What `folder` holds. It may change meanwhile; links are not followed."""
    size_bytes = entries = 0
    seen: set[int] = set()  # inodes with several names
    pending = [(str(folder), 0)]
    while pending:
        path, depth = pending.pop()
        if depth > _MOST_DEPTH:
            return Taken(size_bytes, entries, f"folders nested deeper than {_MOST_DEPTH}")
        try:
            for child, status in _entries(path):
                entries += 1
                if status.st_nlink == 1 or status.st_ino not in seen:
                    size_bytes += status.st_blocks * _BLOCK
                if stat.S_ISDIR(status.st_mode):
                    pending.append((child, depth + 1))
                elif status.st_nlink > 1:
                    seen.add(status.st_ino)
                if size_bytes > most_bytes or entries > most_entries:
                    return Taken(size_bytes, entries)
        except (FileNotFoundError, NotADirectoryError):
            continue  # removed or replaced meanwhile
        except OSError:
            return Taken(size_bytes, entries, "a folder can't be looked into")
    return Taken(size_bytes, entries)


def _entries(path: str) -> Iterator[tuple[str, os.stat_result]]:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with os.scandir(handle) as children:
            for child in children:
                try:
                    yield f"{path}/{child.name}", child.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
    finally:
        os.close(handle)


def check_taken(folder: Path, rules: SandboxRules) -> None:
    """Raise when a job has more on the disk than it may.

    Raises:
        DeniedError: it has; `outputs-too-large`.
    """
    taken = taken_by(folder, most_bytes=rules.disk_bytes)
    over = taken.size_bytes > rules.disk_bytes or taken.entries > MOST_ENTRIES
    if over or taken.uncounted:
        much = f"over {rules.disk_bytes} bytes" if taken.size_bytes > rules.disk_bytes else f"{taken.entries} files"
        raise DeniedError(
            "the job wrote more than it may have on the site's disk",
            code="outputs-too-large",
            rule="sandbox.disk",
            measure=taken.uncounted or much,
            limit=f"{format_bytes(rules.disk_bytes)}, {MOST_ENTRIES} files",
            hint="write less to the outputs, and what is only passed on between steps to /tmp; or ask the site's steward",
        )


def check_free(folder: Path, reserve_bytes: int) -> None:
    """Raise when the disk that holds `folder` has less than the reserve left.

    Raises:
        UnavailableError: it has; `disk-reserve`.
    """
    disk = os.statvfs(folder)
    if disk.f_bavail * disk.f_frsize < reserve_bytes:
        raise UnavailableError(
            "the site's disk is almost full",
            code="disk-reserve",
            rule="sandbox.free",
            measure=f"less than {format_bytes(reserve_bytes)} free",
            limit=format_bytes(reserve_bytes),
            hint="the site's steward frees some disk; then submit it again",
        )


@dataclass
class Watch:
    """What a look found, if it was too much."""

    problem: InsituError | None = None


@contextmanager
def watched(
    folder: Path, rules: Callable[[], SandboxRules | None], stop: Callable[[], object], threads: SpareThreads
) -> Generator[Watch]:
    """Look at `folder` and its disk while a job runs, and call `stop` once when it is too much.

    Args:
        rules: as the policy has them now; none while it can't be read.
    """
    watch, ended = Watch(), threading.Event()

    def look() -> None:
        pause_s = _PAUSE_S
        while not ended.wait(pause_s):
            began = time.monotonic()
            now = rules()
            try:
                if now is not None:
                    check_taken(folder, now)
                    check_free(folder, now.free_bytes // 2)  # no new job starts long before
            except InsituError as problem:
                watch.problem = problem
                stop()
                return
            pause_s = max(_PAUSE_S, _SHARE * (time.monotonic() - began))

    thread = threads.run(look, name=f"disk-{folder.name}")
    try:
        yield watch
    finally:
        ended.set()
        thread.join()
