"""What a download leaves that nobody goes on with: parts of blobs, and images that were being unpacked when a power cut came.

A part is kept while somebody may go on with it: that is a day. Caches may be shared with
other sites of this machine, so a part that is held by whoever fetches it is left alone.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

_log = logging.getLogger("insitu.agent")

GIVEN_UP_AFTER = timedelta(days=1)
_PLACES = ("code/.*.part", "locks/.*.part", "wheels/*/.*.part", "images/layout/blobs/sha256/.*.part")
_UNPACKING = "images/unpacked/.work-*"


def remove_given_up(cache: Path, *, now: datetime) -> int:
    """Remove from a cache of code, packages and images what has not been written to for a day; how many there were."""
    before = (now - GIVEN_UP_AFTER).timestamp()
    removed = sum(_remove_part(path) for path in _older(cache, _PLACES, before))
    for folder in _older(cache, (_UNPACKING,), before):
        shutil.rmtree(folder, ignore_errors=True)
        removed += 1
    if removed:
        _log.info("removed %s left-overs of transfers that nobody went on with", removed)
    return removed


def _older(cache: Path, patterns: tuple[str, ...], before: float) -> Iterator[Path]:
    for pattern in patterns:
        for path in list(cache.glob(pattern)):
            with suppress(FileNotFoundError):
                if path.lstat().st_mtime < before:
                    yield path


def _remove_part(path: Path) -> bool:
    with suppress(OSError):
        part = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as whoever fetches it holds it
            path.unlink()
        finally:
            os.close(part)
        return True
    return False
