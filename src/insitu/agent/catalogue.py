"""Datasets of a site: immutable versions, each staged once, indexed for the gate, offered without rows.

    datasets/<name>/<version>/
        files/        the version's bytes, read-only; what a job sees
        index/        what the gate compares outputs with (keyed; never leaves)
        version.json  manifest: files, sizes, keyed digests, columns, row band

A version's digest is keyed with the site's own key, so that it names the bytes
and can't be used to guess them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from insitu.agent.datastores import find_datastore
from insitu.agent.folder import SiteFolder, open_to_gate, write_atomic
from insitu.agent.settings import load_settings
from insitu.domain.errors import IntegrityError, InvalidInputError, NotFoundError
from insitu.domain.ids import check_name
from insitu.gate.known.data import build_index
from insitu.wire.sync import ColumnView, DatasetOffer

_MAX_FILES = 100_000
_CHUNK = 1 << 20  # bytes


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
    files: tuple[dict[str, Any], ...]
    folder: Path
    added_at: str

    @property
    def data(self) -> Path:
        return self.folder / "files"

    @property
    def index(self) -> Path:
        return self.folder / "index"

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"

    def as_offer(self) -> DatasetOffer:
        """What the hub may know of it."""
        return DatasetOffer(
            name=self.name,
            version=self.version,
            digest=self.digest,
            rows=self.row_band,
            columns=[ColumnView(name=name, type=kind) for name, kind in self.columns],
            description=self.description,
        )

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
            "files": len(self.files),
            "size_bytes": sum(file["size"] for file in self.files),
            "added_at": self.added_at,
        }


def list_datasets(folder: SiteFolder) -> list[DatasetVersion]:
    found = [_load(path) for path in folder.datasets.glob("*/*/version.json")]
    return sorted(found, key=lambda version: (version.name, version.version))


def find_dataset(folder: SiteFolder, name: str, version: int | None = None) -> DatasetVersion:
    """The named version, or the newest.

    Raises:
        NotFoundError: there is none.
    """
    versions = [known for known in list_datasets(folder) if known.name == name]
    for known in reversed(versions):
        if version is None or known.version == version:
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
) -> DatasetVersion:
    """Stage the files that `pattern` matches in a datastore as the next version of `name`.

    Args:
        kind: how the gate's index reads them: csv, npy, text, files or images.
        gate_gid: host group that may read the index, see `SiteFolder.make`.

    Raises:
        InvalidInputError: nothing matches, or a file can't be read as `kind` (it says which line).
        NotFoundError: there is no such datastore.
    """
    check_name(name, what="dataset")
    store = find_datastore(folder, datastore)
    root = Path(store.address.folder)
    sources = _matching(root, pattern)
    version = 1 + max((known.version for known in list_datasets(folder) if known.name == name), default=0)
    target = folder.datasets / name / str(version)
    work = folder.datasets / f".{name}-{version}.{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    try:
        files = _stage(sources, root, work / "files", _index_key(folder))
        staged = [work / "files" / file["path"] for file in files]
        (work / "index").mkdir()
        memory_bytes = load_settings(folder).index_memory
        summary = build_index(staged, kind, work / "index", _index_key(folder), memory_bytes=memory_bytes)
        document = {
            "name": name,
            "version": version,
            "digest": _version_digest(files, _index_key(folder)),
            "rows": summary.rows,
            "row_band": summary.row_count_band,
            "columns": [[column, type_] for column, type_ in summary.columns],
            "description": description,
            "files": files,
            "added_at": datetime.now(UTC).isoformat(),
        }
        write_atomic(work / "version.json", json.dumps(document).encode())
        target.parent.mkdir(exist_ok=True, mode=0o700)
        if gate_gid is not None:
            _open_index(target.parent, work, gate_gid)
        work.rename(target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return _load(target / "version.json")


def check_unchanged(version: DatasetVersion, folder: SiteFolder) -> None:
    """Raise unless the staged bytes are still those of the version.

    Sizes and times are compared; where a time differs the bytes are read again.

    Raises:
        IntegrityError: a file was changed, added or lost; it names the version, not the data.
    """
    for file in version.files:
        path = version.data / file["path"]
        try:
            found = path.stat()
        except OSError:
            raise _changed(version) from None
        same = found.st_size == file["size"] and found.st_mtime_ns == file["mtime_ns"]
        if not same and _keyed_digest(path, _index_key(folder)) != file["digest"]:
            raise _changed(version)


def _changed(version: DatasetVersion) -> IntegrityError:
    return IntegrityError(
        f"dataset {version.label} is not what it was when it was added",
        code="dataset-changed",
        rule="dataset-version",
        hint="a version is immutable: add the changed files as a new version with `insitu data add`",
    )


def _load(path: Path) -> DatasetVersion:
    document = json.loads(path.read_text())
    return DatasetVersion(
        name=document["name"],
        version=document["version"],
        digest=document["digest"],
        rows=document["rows"],
        row_band=document["row_band"],
        columns=tuple((name, kind) for name, kind in document["columns"]),
        description=document["description"],
        files=tuple(document["files"]),
        folder=path.parent,
        added_at=document["added_at"],
    )


def _matching(root: Path, pattern: str) -> list[Path]:
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise InvalidInputError("--path is a pattern inside the datastore", code="data-path", hint="e.g. wdbc/*.csv")
    found = sorted(path for path in root.glob(pattern) if path.is_file())
    inside = [path for path in found if path.resolve().is_relative_to(root)]
    if not inside or len(inside) > _MAX_FILES:
        raise InvalidInputError(
            f"{pattern!r} matches {len(inside)} files in the datastore",
            code="data-path",
            limit=f"1 to {_MAX_FILES}",
            hint="patterns are relative to the datastore's folder",
        )
    return inside


def _stage(sources: list[Path], root: Path, target: Path, key: bytes) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = []
    for source in sources:
        relative = source.relative_to(root)
        copy = target / relative
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
        copy.chmod(0o444)
        found = copy.stat()
        digest = _keyed_digest(copy, key)
        files.append({"path": str(relative), "size": found.st_size, "mtime_ns": found.st_mtime_ns, "digest": digest})
    for folder, _, _ in os.walk(target):
        os.chmod(folder, 0o755)  # noqa: PTH101, S103 - seen through a read-only mount alone
    return files


def _open_index(parent: Path, version: Path, gid: int) -> None:
    """The gate's processes read the index; the bytes themselves they never need."""
    for folder in (parent, version):
        open_to_gate(folder, gid)
    for path in [version / "index", *(version / "index").rglob("*")]:
        os.chown(path, -1, gid)
        path.chmod(0o750 if path.is_dir() else 0o640)


def _keyed_digest(path: Path, key: bytes) -> str:
    hasher = hashlib.blake2b(key=key, digest_size=32)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def _version_digest(files: list[dict[str, Any]], key: bytes) -> str:
    listing = json.dumps([[file["path"], file["size"], file["digest"]] for file in files])
    return "sha256:" + hashlib.blake2b(listing.encode(), key=key, digest_size=32).hexdigest()


def _index_key(folder: SiteFolder) -> bytes:
    if not folder.index_key.exists():
        write_atomic(folder.index_key, os.urandom(32))
    return folder.index_key.read_bytes()
