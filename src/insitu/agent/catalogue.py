"""Datasets of a site: immutable versions of objects in a datastore, indexed for the gate, offered without rows.

    datasets/<name>/<version>/
        index/          what the gate compares outputs with (keyed; never leaves)
        manifest.json   its objects: names, sizes, ETags, keyed digests (never leaves)
        version.json    what it is: datastore, format, columns, row band
        notes.json      what the steward says of it since: tags, archived; the only thing that changes
    datasets/<name>/deleted.json    numbers that are not given again

The bytes stay in the datastore; jobs read a copy in the site's cache, which can be
had again (`staging`). A version's digest is keyed with the site's own key, so that it
names the bytes and can't be used to guess them.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from insitu.agent.datastores import find_datastore
from insitu.agent.folder import SiteFolder, open_to_gate, write_atomic
from insitu.agent.settings import load_settings
from insitu.agent.staging.data_cache import DataCache, Staged
from insitu.agent.staging.patterns import compile_pattern, literal_prefix
from insitu.agent.staging.streamed import StreamedFile
from insitu.agent.staging.views import check_names
from insitu.agent.store import Store
from insitu.agent.stores.contract import ObjectInfo, ObjectStore
from insitu.domain.errors import InvalidInputError, NotFoundError, UnavailableError
from insitu.domain.ids import check_name
from insitu.domain.quantities import format_bytes
from insitu.gate.known.data import IndexSummary, build_index

_MAX_OBJECTS = 1_000_000


@dataclass(frozen=True)
class DatasetVersion:
    """One immutable version at this site."""

    name: str
    version: int
    digest: str
    rows: int
    row_band: str
    columns: tuple[tuple[str, str], ...]
    description: str
    folder: Path
    added_at: str
    format: str = ""
    datastore: str = ""
    path: str = ""
    """The pattern that its objects' names matched when it was added."""
    objects: int = 0
    size_bytes: int = 0
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    archived_at: str = ""
    """Archived versions are kept for what was made of them, and offered to nobody."""

    @property
    def data(self) -> Path:
        """What a job is given of it, once it is staged."""
        return self.folder.parents[2] / "cache" / "views" / self.staged.view

    @property
    def index(self) -> Path:
        return self.folder / "index"

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def staged(self) -> Staged:
        return Staged(self.label, self.digest, self.folder / "manifest.json", self.size_bytes)

    def as_dict(self) -> dict[str, Any]:
        """For the steward, at the site."""
        return {
            "name": self.name,
            "version": self.version,
            "digest": self.digest,
            "rows": self.rows,
            "rows_published": self.row_band,
            "columns": [{"name": name, "type": kind} for name, kind in self.columns],
            "description": self.description,
            "format": self.format,
            "datastore": self.datastore,
            "path": self.path,
            "files": self.objects,
            "size_bytes": self.size_bytes,
            "added_at": self.added_at,
            "tags": dict(self.tags),
            "archived_at": self.archived_at,
        }


def list_datasets(folder: SiteFolder, *, archived: bool = False) -> list[DatasetVersion]:
    """What jobs may ask for; with `archived` also what was put away."""
    found = [_load(path) for path in folder.datasets.glob("*/*/version.json")]
    kept = [version for version in found if archived or not version.archived_at]
    return sorted(kept, key=lambda version: (version.name, version.version))


def offered(folder: SiteFolder, wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """(dataset, version) → digest, of those of `wanted` that jobs may ask for here."""
    found: dict[tuple[str, int], str] = {}
    for name, number in wanted:
        with suppress(NotFoundError):
            version = find_dataset(folder, name, number)
            if not version.archived_at:
                found[name, number] = version.digest
    return found


def find_dataset(folder: SiteFolder, name: str, version: int | None = None) -> DatasetVersion:
    """The named version, archived or not; without a number the newest that is not.

    Raises:
        NotFoundError: there is none.
    """
    if version is not None:
        path = folder.datasets / name / str(version) / "version.json"
        if name and "/" not in name and not name.startswith(".") and path.exists():
            return _load(path)
    for known in reversed(list_datasets(folder)):
        if version is None and known.name == name:
            return known
    raise NotFoundError(
        f"there is no dataset {name}@{version or 'any'} at this site",
        code="no-dataset",
        hint=f"known: {', '.join(known.label for known in list_datasets(folder)) or 'none'}",
    )


def add_dataset(
    folder: SiteFolder,
    name: str,
    *,
    datastore: str,
    pattern: str,
    kind: str = "csv",
    description: str = "",
    gate_gid: int | None = None,
    cache: DataCache | None = None,
    environment: Mapping[str, str] | None = None,
    progress: Callable[[str, int, int], None] = lambda _what, _done, _all: None,
) -> DatasetVersion:
    """Make the objects that `pattern` matches in a datastore the next version of `name`.

    They are read once, for their digests and for the gate's index; what was read stays in the cache for the first job.
    What does not fit there is read from the datastore, once more for the index, and nothing of it is kept.

    Args:
        kind: how the gate's index reads them: csv, parquet, npy, text, files or images.
        gate_gid: host group that may read the index, see `SiteFolder.make`.
        cache: the site's; none: one for this call alone, where no agent runs.
        environment: where the datastore's credentials may stand.
        progress: called with what is done ("staging"), bytes done, bytes in all.

    Raises:
        InvalidInputError: nothing matches, or a file can't be read as `kind` (it says which line).
        NotFoundError: there is no such datastore.
        StoreError: the datastore could not be reached, logged in to, listed or read.
        ObjectChangedError: an object was written again while it was read.
        UnavailableError: the disk has no room for the index ("index-disk-full"), or filled meanwhile.
    """
    check_name(name, what="dataset")
    matcher = compile_pattern(pattern)
    store = find_datastore(folder, datastore).open(environment or {})
    cache = cache or data_cache(folder)
    try:
        found = _matching(store, pattern, matcher.fullmatch)
        version = _next_number(folder, name)
        with (
            _version_folder(folder, name, version, gate_gid) as work,
            cache.take_in(found, store, progress=lambda done, of: progress("staging", done, of)) as (
                manifest,
                digest,
                files,
            ),
        ):
            summary = _index(folder, work, files, kind)
            manifest.save(work / "manifest.json")
            document = {
                "name": name,
                "version": version,
                "digest": digest,
                "rows": summary.rows,
                "row_band": summary.row_count_band,
                "columns": [[column, type_] for column, type_ in summary.columns],
                "description": description,
                "format": kind,
                "datastore": datastore,
                "path": pattern,
                "objects": len(manifest.objects),
                "size_bytes": manifest.size_bytes,
                "added_at": datetime.now(UTC).isoformat(),
            }
            write_atomic(work / "version.json", json.dumps(document).encode())
    except BaseException:
        cache.sweep()
        raise
    finally:
        store.close()
    return _load(folder.datasets / name / str(version) / "version.json")


def note_on_dataset(
    version: DatasetVersion, *, tags: Mapping[str, str | None] | None = None, archived: bool | None = None
) -> DatasetVersion:
    """Put a version's tags or its archived state down; a tag of None is taken away."""
    merged = {**version.tags, **(tags or {})}
    since = version.archived_at
    if archived is not None:
        since = (since or datetime.now(UTC).isoformat()) if archived else ""
    document = {"tags": {key: value for key, value in merged.items() if value is not None}, "archived_at": since}
    write_atomic(version.folder / "notes.json", json.dumps(document).encode())
    return _load(version.folder / "version.json")


def delete_dataset(version: DatasetVersion, cache: DataCache) -> None:
    """Forget a version: its index, its manifest, its bytes in the cache. What lies in the datastore stays.

    Its number is never given again: what names it in a ledger or a model's lineage means this version.
    """
    taken = version.folder.parent / "deleted.json"
    known = json.loads(taken.read_text()) if taken.exists() else []
    entry = {"version": version.version, "digest": version.digest, "at": datetime.now(UTC).isoformat()}
    write_atomic(taken, json.dumps([*known, entry]).encode())
    gone = version.folder.with_name(f".{version.version}.gone")
    version.folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
    same = [
        other
        for other in version.folder.parent.parent.glob("*/*/version.json")
        if _load(other).digest == version.digest
    ]
    if not same:
        cache.drop(version.staged)


def data_cache(folder: SiteFolder, *, in_use: Callable[[], set[str]] = set, reserve_bytes: int = 0) -> DataCache:
    """The site's cache of its private data, as its settings have it."""
    settings = load_settings(folder)
    folder.cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    return DataCache(
        folder.cache,
        index_key(folder),
        limit_bytes=settings.data_cache or 0,
        reserve_bytes=reserve_bytes,
        in_use=in_use,
    )


def in_use(folder: SiteFolder, store: Store) -> Callable[[], set[str]]:
    """What tells the digests of the versions that jobs read now, or are about to."""

    def digests() -> set[str]:
        found: set[str] = set()
        for label in store.datasets_in_use():
            name, _, number = label.partition("@")
            with suppress(NotFoundError):
                found.add(find_dataset(folder, name, int(number)).digest)
        return found

    return digests


def index_key(folder: SiteFolder) -> bytes:
    """The site's key for digests and indexes, made when there is none."""
    if not folder.index_key.exists():
        write_atomic(folder.index_key, os.urandom(32))
    return folder.index_key.read_bytes()


# -- inside ------------------------------------------------------------------------------------------------------------


def _matching(store: ObjectStore, pattern: str, matches: Callable[[str], object]) -> list[ObjectInfo]:
    found: list[ObjectInfo] = []
    for one in store.list(literal_prefix(pattern)):
        folder_mark = one.name.endswith("/") and not one.size_bytes  # what some tools write to show an empty folder
        if matches(one.name) and not folder_mark:
            found.append(one)
        if len(found) > _MAX_OBJECTS:
            break
    if not found or len(found) > _MAX_OBJECTS:
        raise InvalidInputError(
            f"{pattern!r} matches {len(found) or 'no'} objects in the datastore",
            code="data-path",
            limit=f"1 to {_MAX_OBJECTS}",
            hint="patterns are relative to the datastore's folder or prefix; `*` does not cross a slash, `**` does",
        )
    found.sort(key=lambda one: one.name)
    check_names([one.name for one in found])
    return found


def _index(folder: SiteFolder, work: Path, files: Sequence[Path | StreamedFile], kind: str) -> IndexSummary:
    (work / "index").mkdir()
    memory_bytes = load_settings(folder).index_memory
    try:
        return build_index(files, kind, work / "index", index_key(folder), memory_bytes=memory_bytes)
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UnavailableError(
            "the site's disk has no room for the gate's index of the new version",
            code="index-disk-full",
            rule="index-disk",
            measure="the index, and while it is made as much again",
            limit=f"{format_bytes(shutil.disk_usage(work).free)} free",
            hint="free some disk, or add fewer objects; a version that is not indexed can't be guarded, so there is none",
        ) from exc


@contextmanager
def _version_folder(folder: SiteFolder, name: str, version: int, gate_gid: int | None) -> Iterator[Path]:
    """A folder that becomes the version's when the block ends well, and is gone otherwise."""
    target = folder.datasets / name / str(version)
    work = folder.datasets / f".{name}-{version}.{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700)
    try:
        yield work
        target.parent.mkdir(exist_ok=True, mode=0o700)
        if gate_gid is not None:
            _open_index(target.parent, work, gate_gid)
        work.rename(target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _next_number(folder: SiteFolder, name: str) -> int:
    """One more than any version ever had: a number that was deleted is not given again."""
    known = [version.version for version in list_datasets(folder, archived=True) if version.name == name]
    deleted = folder.datasets / name / "deleted.json"
    gone = [entry["version"] for entry in json.loads(deleted.read_text())] if deleted.exists() else []
    return 1 + max([*known, *gone], default=0)


def _open_index(parent: Path, version: Path, gid: int) -> None:
    """The gate's processes read the index; the bytes themselves they never need."""
    for folder in (parent, version):
        open_to_gate(folder, gid)
    for path in [version / "index", *(version / "index").rglob("*")]:
        os.chown(path, -1, gid)
        path.chmod(0o750 if path.is_dir() else 0o640)


@lru_cache(maxsize=256)
def _document(path: Path, written_ns: int) -> dict[str, Any]:
    """What was written down of a version when it was added; a job's start asks for it three times. Not to be changed."""
    del written_ns  # one of this name that was added again is another one
    return json.loads(path.read_text())


def _load(path: Path) -> DatasetVersion:
    document = _document(path, path.stat().st_mtime_ns)
    notes_file = path.with_name("notes.json")
    notes = json.loads(notes_file.read_text()) if notes_file.exists() else {}
    return DatasetVersion(
        name=document["name"],
        version=document["version"],
        digest=document["digest"],
        rows=document["rows"],
        row_band=document["row_band"],
        columns=tuple((name, kind) for name, kind in document["columns"]),
        description=document["description"],
        folder=path.parent,
        added_at=document["added_at"],
        format=document["format"],
        datastore=document["datastore"],
        path=document["path"],
        objects=document["objects"],
        size_bytes=document["size_bytes"],
        tags=notes.get("tags", {}),
        archived_at=notes.get("archived_at", ""),
    )
