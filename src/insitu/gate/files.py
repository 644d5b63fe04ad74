"""Reads what a job left in a folder: plain files, by bytes, within bounds.

Links, devices, pipes and sockets are not followed and not opened. The folder
has been frozen before, so a path can't change between looking and reading; a
file is opened without following a link all the same.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from insitu.gate.effort import Effort

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Written:
    """Relative path → content of the plain files, and how many entries were something else."""

    files: Mapping[str, bytes]
    not_plain: int = 0


def read_written(path: Path, effort: Effort) -> Written:
    """Everything under `path`, which is a file or a folder.

    Raises:
        OutOfEffortError: there is more than one judgement may read.
    """
    if not path.is_symlink() and path.is_dir():
        return _read_folder(path, effort)
    data = _read_file(path, effort)
    return Written({}, 1) if data is None else Written({path.name: data})


def _read_folder(root: Path, effort: Effort) -> Written:
    files: dict[str, bytes] = {}
    not_plain = 0
    for folder, folders, names in os.walk(root, followlinks=False):
        folders.sort()
        links = [name for name in folders if Path(folder, name).is_symlink()]
        not_plain += len(links)
        for name in sorted(names):
            effort.spend_member()
            path = Path(folder, name)
            data = _read_file(path, effort)
            if data is None:
                not_plain += 1
            else:
                files[path.relative_to(root).as_posix()] = data
    return Written(files, not_plain)


def _read_file(path: Path, effort: Effort) -> bytes | None:
    """The content, or None for what is not a plain file of its own."""
    try:
        # Not blocking: a pipe without a writer would hold the judge for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            return None
        parts: list[bytes] = []
        while chunk := stream.read(_CHUNK):
            effort.spend_bytes(len(chunk))
            parts.append(chunk)
    return b"".join(parts)
