"""A code folder as one file with one digest: the same files give the same bytes.

`.gitignore` and `.insituignore` are honoured at every level, with git's own
pattern rules; `.git` never goes along. Times, owners and order are fixed.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pathspec

from insitu.domain.errors import InvalidInputError
from insitu.domain.quantities import format_bytes

MAX_BYTES = 256 << 20
_NEVER = (".git/", "__pycache__/", ".venv/", ".DS_Store")
_FILES = (".gitignore", ".insituignore")


def snapshot(folder: Path, *, without: Path | None = None) -> bytes:
    """The folder as an uncompressed tar.

    Args:
        without: the job file, which is signed by itself, with its values filled in: another value in it is
            another job, and still the same code.

    Raises:
        InvalidInputError: it is no folder, holds nothing, or is too large.
    """
    if not folder.is_dir():
        raise InvalidInputError(
            f"{folder} is not a folder", code="code-folder", hint="`code:` names the script's folder"
        )
    out = io.BytesIO()
    total = 0
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in _files(folder):
            if without is not None and path.samefile(without):
                continue
            total += path.stat().st_size
            if total > MAX_BYTES:
                raise InvalidInputError(
                    f"the code folder {folder} is too large",
                    code="code-too-large",
                    measure=f"more than {format_bytes(MAX_BYTES)}",
                    limit=format_bytes(MAX_BYTES),
                    hint="list data and results in .insituignore: code travels, data stays",
                )
            archive.addfile(_entry(path, folder), io.BytesIO(path.read_bytes()))
    if total == 0:
        raise InvalidInputError(f"the code folder {folder} holds no files", code="code-folder")
    return out.getvalue()


def _entry(path: Path, folder: Path) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
    found = path.stat()
    entry.size = found.st_size
    entry.mode = 0o755 if found.st_mode & 0o100 else 0o644
    return entry


def _files(folder: Path) -> Iterator[Path]:
    """Plain files that no ignore file names, in a fixed order."""
    specs: dict[Path, pathspec.GitIgnoreSpec] = {}
    for parent, folders, names in os.walk(folder):
        here = Path(parent)
        specs[here] = _rules(here)
        folders[:] = sorted(name for name in folders if not _ignored(here / name, folder, specs, is_folder=True))
        for name in sorted(names):
            path = here / name
            if path.is_file() and not path.is_symlink() and not _ignored(path, folder, specs, is_folder=False):
                yield path


def _rules(folder: Path) -> pathspec.GitIgnoreSpec:
    lines = list(_NEVER)
    for name in _FILES:
        if (folder / name).is_file():
            lines += (folder / name).read_text().splitlines()
    return pathspec.GitIgnoreSpec.from_lines(lines)


def _ignored(path: Path, root: Path, specs: dict[Path, pathspec.GitIgnoreSpec], *, is_folder: bool) -> bool:
    for parent in path.parents:
        relative = path.relative_to(parent).as_posix() + ("/" if is_folder else "")
        if specs[parent].match_file(relative):
            return True
        if parent == root:
            return False
    return False
