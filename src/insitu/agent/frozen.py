"""Canonical copies of judged outputs: moved to where only the agent reaches them, named by digest.

What a reviewer sees, what leaves, and what a resident model is served from is this copy;
before each use its files are digested again.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from insitu.domain.digests import digest_of_file
from insitu.domain.errors import DeniedError, IntegrityError
from insitu.wire.releases import ReleasedFile, files_digest


def keep_copy(source: Path, target: Path) -> Path | None:
    """Copy what the judge wrote to `target`, whole or not at all. None: it wrote nothing."""
    if not target.exists() and source.exists():
        work = target.with_name(f".{target.name}")
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(source, work, symlinks=True) if source.is_dir() else _copy_file(source, work)
        work.rename(target)
    return target if target.exists() else None


def _copy_file(source: Path, folder: Path) -> None:
    folder.mkdir()
    shutil.copyfile(source, folder / source.name)


def list_files(folder: Path) -> list[ReleasedFile]:
    """A canonical copy's files with their digests.

    Raises:
        IntegrityError: it holds anything but plain files.
    """
    files: list[ReleasedFile] = []
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        if path.is_symlink() or not path.is_file():
            raise IntegrityError("a canonical copy holds something that is not a plain file", code="not-a-file")
        relative = path.relative_to(folder).as_posix()
        files.append(ReleasedFile(path=relative, digest=digest_of_file(path), size_bytes=path.stat().st_size))
    return files


def check_frozen(folder: Path, digest: str) -> None:
    """Raise unless the copy is still what was judged and reviewed.

    Raises:
        DeniedError: it isn't.
    """
    if not digest or files_digest(list_files(folder)) != digest:
        raise DeniedError(
            "a frozen output is not what was judged, so it stays",
            code="frozen-changed",
            rule="frozen-digest",
            hint="run the job again; keep the folder as evidence",
        )
