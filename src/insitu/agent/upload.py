"""Moves local files into a site's datastore. What is there already is not sent again.

Stopped anywhere, it goes on with the files that are missing: one that the store has
with the same size, written after the local file was last changed, is taken for sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from insitu.agent.stores.contract import ObjectMissingError, ObjectStore
from insitu.domain.errors import InvalidInputError

_AT_ONCE = 4


@dataclass(frozen=True)
class LocalFile:
    """A file here, and the object that it becomes."""

    path: Path
    name: str
    size_bytes: int
    changed_at: datetime


@dataclass(frozen=True)
class Uploaded:
    """What became of them."""

    sent: int
    sent_bytes: int
    already_there: int


def local_files(given: Sequence[Path], to: str) -> list[LocalFile]:
    """All files that are named, those below a folder by their place in it.

    Raises:
        InvalidInputError: one is not there, or two would become the same object.
    """
    prefix = f"{to.strip('/')}/" if to.strip("/") else ""
    if ".." in prefix.split("/"):
        raise InvalidInputError("--to is a prefix inside the datastore", code="data-path", hint="e.g. wdbc/2026")
    found = [LocalFile(path, prefix + name, *_facts(path)) for one in given for path, name in _below(one)]
    names = {one.name for one in found}
    if not found or len(names) < len(found):
        raise InvalidInputError(
            "two of the files would have the same name in the datastore" if found else "there is no file to upload",
            code="upload-names" if found else "upload-empty",
            hint="upload them one after the other, with another --to",
        )
    return found


def upload(
    store: ObjectStore, files: Sequence[LocalFile], *, progress: Callable[[int], None] = lambda _: None
) -> Uploaded:
    """Send what is missing, several at a time.

    Raises:
        StoreError: the store can't be reached, or takes nothing; files that were sent stay sent.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        work = {pool.submit(_send, store, one, progress): one for one in files}
        try:
            sent = [work[done] for done in as_completed(work) if done.result()]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return Uploaded(len(sent), sum(one.size_bytes for one in sent), len(files) - len(sent))


def _send(store: ObjectStore, file: LocalFile, progress: Callable[[int], None]) -> bool:
    """Whether it had to be sent."""
    try:
        there = store.describe(file.name)
    except ObjectMissingError:
        there = None
    if there is not None and there.size_bytes == file.size_bytes and there.modified_at >= file.changed_at:
        progress(file.size_bytes)
        return False
    store.write(file.name, file.path, progress=progress)
    return True


def _below(given: Path) -> Iterator[tuple[Path, str]]:
    if given.is_dir():
        for path in sorted(given.rglob("*")):
            if path.is_file():
                yield path, f"{given.resolve().name}/{path.relative_to(given).as_posix()}"
    elif given.is_file():
        yield given, given.name
    else:
        raise InvalidInputError(f"there is no file or folder {given}", code="upload-missing")


def _facts(path: Path) -> tuple[int, datetime]:
    found = path.stat()
    # Stores tell whole seconds.
    return found.st_size, datetime.fromtimestamp(int(found.st_mtime), UTC)
