"""What a job sees of a version: its objects under their names, in a folder of hard links. Made once, read by all jobs.

<cache>/views/<digest>/…       the names; folders 0755 and files 0444, reached through a read-only mount alone
<cache>/views/<digest>.json    written last: what is here is whole. Its time is when it was last used.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from insitu.agent.staging.manifest import Manifest, ManifestObject
from insitu.agent.staging.objects import Objects
from insitu.domain.errors import InvalidInputError

_LOOKED_AT = 1000
"""How many files are looked at before a job gets them; all of them in most versions."""
_LONGEST_PART = 255  # bytes, of Linux's file systems


@dataclass(frozen=True)
class Views:
    """The views of a cache. A version is named by the hex of its digest."""

    objects: Objects

    @property
    def folder(self) -> Path:
        return self.objects.root / "views"

    def path(self, version: str) -> Path:
        return self.folder / version

    def make(self, version: str, manifest: Manifest, *, boot_id: str) -> None:
        """Make the view of a version whose objects are all here. Repeating it changes nothing."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        work = self.folder / f".{version}.{os.getpid()}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(mode=0o755)
        try:
            self._fill(work, manifest.objects)
            looked_at = _some(manifest.objects)
            marks = [[one.name, one.size_bytes, os.stat(f"{work}/{one.name}").st_mtime_ns] for one in looked_at]  # noqa: PTH116 - a thousand
            shutil.rmtree(self.path(version), ignore_errors=True)
            work.rename(self.path(version))
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        self._save(version, {"size_bytes": manifest.size_bytes, "looked_at": marks, "boot_id": boot_id})

    def _fill(self, work: Path, objects: Sequence[ManifestObject]) -> None:
        made: set[str] = set()
        for one in objects:
            parent = one.name.rpartition("/")[0]
            if parent and parent not in made:
                (work / parent).mkdir(parents=True, exist_ok=True)
                made.add(parent)
            self._link(one, f"{work}/{one.name}")
        for folder, _, _ in os.walk(work):
            os.chmod(folder, 0o755)  # noqa: PTH101, S103 - seen through a read-only mount alone

    def _link(self, one: ManifestObject, name: str) -> None:
        if not one.size_bytes:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
            return
        source = self.objects.name(one.digest)
        try:
            os.link(source, name)
        except OSError as exc:
            if exc.errno != errno.EMLINK:  # 65,000 names for one file, on ext4
                raise
            # Another copy takes its place and the names to come; those that it has keep theirs.
            self.objects.put(one.digest, Path(source).read_bytes())
            os.link(source, name)

    # -- what is here --------------------------------------------------------------------------------------------------

    def marker(self, version: str) -> dict[str, Any] | None:
        """What is written of a view that is whole; None when there is none."""
        try:
            return json.loads(self._marker(version).read_text())
        except (FileNotFoundError, ValueError):
            return None

    def is_untouched(self, version: str, marker: dict[str, Any]) -> bool:
        """Whether its files have the sizes and times that they were given: of all in most versions, of some in large ones."""
        root = str(self.path(version))
        try:
            for name, size, mtime_ns in marker["looked_at"]:
                found = os.stat(f"{root}/{name}", follow_symlinks=False)  # noqa: PTH116 - a thousand of them for each job
                if found.st_size != size or found.st_mtime_ns != mtime_ns:
                    return False
        except OSError:
            return False
        return True

    def touch(self, version: str) -> None:
        """It is used now."""
        with suppress(FileNotFoundError):
            os.utime(self._marker(version))

    def note_verified(self, version: str, marker: dict[str, Any], *, boot_id: str) -> None:
        self._save(version, {**marker, "boot_id": boot_id})

    def by_use(self) -> Iterator[str]:
        """All views that are whole, the one first that was not used for longest."""
        found: list[tuple[int, str]] = []
        for path in self.folder.glob("*.json"):
            with suppress(FileNotFoundError):
                found.append((path.stat().st_mtime_ns, path.stem))
        yield from (version for _, version in sorted(found))

    def remove(self, version: str) -> None:
        """Its objects stay until they are swept."""
        self._marker(version).unlink(missing_ok=True)
        shutil.rmtree(self.path(version), ignore_errors=True)

    def remove_unfinished(self) -> None:
        """What a process left that was killed while it made a view or removed one."""
        if self.folder.exists():
            for entry in os.scandir(self.folder):
                if entry.is_dir(follow_symlinks=False) and not self._marker(entry.name).exists():
                    shutil.rmtree(entry.path, ignore_errors=True)

    def _marker(self, version: str) -> Path:
        return self.folder / f"{version}.json"

    def _save(self, version: str, document: dict[str, Any]) -> None:
        work = self.folder / f".{version}.json.new"
        work.write_text(json.dumps(document))
        work.replace(self._marker(version))


def check_names(names: Sequence[str]) -> None:
    """Raise unless all names can stand in one folder.

    Raises:
        InvalidInputError: one can't, or one is the folder of another. It names it, and is for the site only.
    """
    known = set(names)
    for name in names:
        path = PurePosixPath(name)
        parts = name.split("/")
        if path.is_absolute() or any(part in ("", ".", "..") for part in parts) or "\0" in name:
            raise _strange(name, "it has an empty part, or one that leads elsewhere")
        if any(len(os.fsencode(part)) > _LONGEST_PART for part in parts):
            raise _strange(name, f"a part of it has more than {_LONGEST_PART} bytes")
        if any(str(parent) in known for parent in path.parents):
            raise _strange(name, "another object has the name of its folder")


def _strange(name: str, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"the object {name!r} can't be a file of a dataset",
        code="data-name",
        why=why,
        hint="rename it in the store, or leave it out with a narrower --path",
    )


def _some(objects: Sequence[ManifestObject]) -> Sequence[ManifestObject]:
    # Which ones is no secret: who can write here is the agent's own user. It guards against accidents.
    return objects if len(objects) <= _LOOKED_AT else random.sample(objects, _LOOKED_AT)
