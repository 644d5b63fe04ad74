"""How the base becomes the root of a sandbox without a byte being written to it.

A mount needs a place to be mounted on, and a base need not have `/job` or
`/opt/env`; making them in the base would change what its digest names. So the
root is a bare skeleton of folders of our own, and what the base has is bound
into it, read-only, entry by entry. The plan is the same for all sandboxes;
links at the top (`/bin -> usr/bin`) are made again as links, never followed
here, so a base can't point out of itself.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from insitu.domain.errors import InvalidInputError

OWN_PLACES = frozenset({"/proc", "/sys", "/dev", "/tmp", "/run"})  # noqa: S108 - inside a sandbox, not here
"""Never taken from the base."""


@dataclass(frozen=True, slots=True)
class RootPlan:
    folders: tuple[str, ...]
    """Empty folders of the skeleton, parents first."""
    links: tuple[tuple[str, str], ...]
    """(path inside, what it says)"""
    binds: tuple[tuple[Path, str], ...]
    """(in the base, path inside), all read-only."""


def plan_root(rootfs: Path, targets: Iterable[str]) -> RootPlan:
    """What to make and bind so that every target can be mounted.

    Raises:
        InvalidInputError: the base isn't a folder, or has a link or a file where a mount has to go.
    """
    taken = {str(parent) for target in targets for parent in PurePosixPath(target).parents}
    taken |= {"/"}
    folders: list[str] = []
    links: list[tuple[str, str]] = []
    binds: list[tuple[Path, str]] = []
    pending = ["/"]
    while pending:
        inside = pending.pop()
        for name, mode in _entries(rootfs / inside.lstrip("/")):
            path = (inside if inside != "/" else "") + "/" + name
            source = rootfs / path.lstrip("/")
            if path in OWN_PLACES:
                continue
            if path in taken:
                if not stat.S_ISDIR(mode):
                    raise InvalidInputError(
                        f"the base has no folder at {path}, where a mount has to go", code="bad-base"
                    )
                folders.append(path)
                pending.append(path)
            elif stat.S_ISLNK(mode):
                links.append((path, str(source.readlink())))
            elif stat.S_ISDIR(mode) and _shows_nothing(source):
                folders.append(path)
            else:
                binds.append((source, path))
    missing = taken - set(folders) - OWN_PLACES - {"/"}
    below_own = ("/run/", "/dev/")  # made by each implementation, in what it mounts there
    folders += sorted((path for path in missing if not path.startswith(below_own)), key=len)
    return RootPlan(tuple(folders), tuple(links), tuple(binds))


def find_python(rootfs: Path) -> str:
    """The base's own interpreter, as a path inside.

    Raises:
        InvalidInputError: it has none.
    """
    for candidate in ("/usr/bin/python3", "/usr/local/bin/python3"):
        if os.path.lexists(rootfs / candidate.lstrip("/")):
            return candidate
    raise InvalidInputError(f"the base {rootfs.name} has no python3", code="bad-base", hint="install python3 in it")


def _shows_nothing(folder: Path) -> bool:
    """Empty, or closed to us (the base's /root, to a user): then the code could not look into it either."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except PermissionError:
        return True


def _entries(folder: Path) -> list[tuple[str, int]]:
    try:
        with os.scandir(folder) as entries:
            return [(entry.name, entry.stat(follow_symlinks=False).st_mode) for entry in entries]
    except OSError as exc:
        raise InvalidInputError(
            f"the base can't be read at {folder}", code="bad-base", why=exc.strerror or "", hint="unpack it again"
        ) from exc
