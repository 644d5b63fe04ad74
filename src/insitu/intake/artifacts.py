"""Files that a script logs: streamed to one folder, under checked names, within bounds.

    artifacts/runs/<run id>/<path>        what log_artifact, log_dict, log_figure … wrote
    artifacts/models/<model id>/<path>    what log_model wrote
    uploads/<n>                           on its way: a broken upload leaves nothing under a real name

This process alone writes below these folders and makes no links in them, so a
path of plain names stays inside. Nothing here is judged: the gate does that
later, on a copy.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal
from urllib.parse import unquote

from insitu.intake.calls import CallRefused, JsonObject, invalid, unknown

PREFIX = "/api/2.0/mlflow-artifacts/artifacts"
_DEPTH = 32
_LONGEST_NAME_BYTES = 255
_LONGEST_PATH_BYTES = 2000
_OF_RUN = re.compile(r"[0-9]{1,20}/([0-9a-f]{32})/artifacts(?:/(.*))?", re.DOTALL)
_OF_MODEL = re.compile(r"[0-9]{1,20}/models/(m-[0-9a-f]{32})/artifacts(?:/(.*))?", re.DOTALL)

Owner = Literal["runs", "models"]


@dataclass(frozen=True)
class Place:
    """Where an artifact belongs. Made by `place_of`, so its path is one of plain names."""

    owner: Owner
    owner_id: str
    path: str  # relative, "" for the owner's own folder

    @property
    def below(self) -> str:
        return f"{self.owner}/{self.owner_id}" + (f"/{self.path}" if self.path else "")


def place_of(address: str) -> Place:
    """The place that an artifact's address (after the prefix, still quoted) names.

    Raises:
        CallRefused: it is no address of an artifact, or its path is not one of plain names.
    """
    decoded = unquote(address, errors="surrogateescape").strip("/")
    for owner, pattern in (("runs", _OF_RUN), ("models", _OF_MODEL)):
        match = pattern.fullmatch(decoded)
        if match:
            path = match[2] or ""
            _check_path(path)
            return Place("runs" if owner == "runs" else "models", match[1], path)
    raise unknown("artifacts belong to a run or a logged model of this job")


def _check_path(path: str) -> None:
    if not path:
        return
    names = path.split("/")
    if len(names) > _DEPTH or len(os.fsencode(path)) > _LONGEST_PATH_BYTES:
        raise invalid("the artifact's path is too long")
    for name in names:
        if name in {"", ".", ".."} or "\0" in name or "\\" in name:
            raise invalid("the artifact's path is not made of plain names")
        if len(os.fsencode(name)) > _LONGEST_NAME_BYTES:
            raise invalid("a name in the artifact's path is too long")


class Upload:
    """One file on its way. `commit` puts it in place; a refusal takes effect there, when the body was read."""

    def __init__(self, store: ArtifactStore, place: Place, temporary: Path, refusal: CallRefused | None) -> None:
        self._store = store
        self._place = place
        self._temporary = temporary
        self._refusal = refusal
        self._file: BinaryIO | None = None if refusal else temporary.open("xb", buffering=0)
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        if self._file is None:
            return  # refused: read to the end all the same, or the client would see a broken connection and repeat
        if not self._store.claim(len(data)):
            self._refuse(_too_much())
            return
        self.size_bytes += len(data)
        try:
            written = self._file.write(data)
        except OSError:
            written = 0
        if written != len(data):
            self._refuse(CallRefused("REQUEST_TOO_LARGE", "the site's disk could not take the artifact"))

    def commit(self) -> None:
        """Put the file in place of any that has its name.

        Raises:
            CallRefused: it was too large, its owner is none of the job's, or its name is taken by a folder.
        """
        if self._file is not None:
            self._file.close()
            self._file = None
            try:
                self._store.put(self._place, self._temporary)
            except OSError as exc:
                self._drop()
                raise invalid("the artifact can't be stored there: a file and a folder have the same name") from exc
            return
        raise self._refusal or invalid("the upload was broken off")

    def abort(self) -> None:
        if self._file is not None:
            self._refuse(invalid("the upload was broken off"))

    def _refuse(self, refusal: CallRefused) -> None:
        assert self._file is not None
        self._file.close()
        self._file = None
        self._refusal = refusal
        self._drop()

    def _drop(self) -> None:
        self._temporary.unlink(missing_ok=True)
        self._store.give_back(self.size_bytes)


def _too_much() -> CallRefused:
    return CallRefused("REQUEST_TOO_LARGE", "the job's artifacts exceed what this site keeps of one job")


class ArtifactStore:
    """The folder, and how much of it is used.

    Args:
        is_ours: whether a run or a model of this id is the job's.
    """

    def __init__(
        self, state_dir: Path, *, most_bytes: int, most_files: int, is_ours: Callable[[Owner, str], bool]
    ) -> None:
        # Made when the first file comes: most of what a job's first line waits for here is folders being made.
        self.root = state_dir / "artifacts"
        self._uploads = state_dir / "uploads"
        self._most_bytes = most_bytes
        self._most_files = most_files
        self._is_ours = is_ours
        self._serial = 0
        self.size_bytes = 0
        self.files = 0

    def upload(self, address: str) -> Upload:
        """Begin to take a file in. An address that is refused still gives an `Upload`, whose `commit` raises.

        Raises:
            CallRefused: the address is not one of an artifact.
        """
        place = place_of(address)
        if not place.path:
            raise invalid("an artifact needs a name")
        refusal = None
        if not self._is_ours(place.owner, place.owner_id):
            refusal = unknown("this job has no such run or model")
        elif self.files >= self._most_files:
            refusal = _too_much()
        if self._serial == 0:
            self.root.mkdir(mode=0o750, exist_ok=True)  # a try that the disk had no room for may have made one of them
            self._uploads.mkdir(mode=0o700, exist_ok=True)
        self._serial += 1
        return Upload(self, place, self._uploads / str(self._serial), refusal)

    def list(self, address: str) -> JsonObject:
        """The entries of a folder; nothing for a file or a name that isn't there, as MLflow has it."""
        place = place_of(address)
        folder = self.root / place.below
        if not self._is_ours(place.owner, place.owner_id) or not folder.is_dir():
            return {}
        files: list[JsonObject] = []
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                files.append({"path": _shown(entry.name), "is_dir": True})
            else:
                size = entry.stat(follow_symlinks=False).st_size
                files.append({"path": _shown(entry.name), "is_dir": False, "file_size": size})
        return {"files": files} if files else {}

    def open(self, address: str) -> tuple[BinaryIO, int]:
        """A stored file and its size, to be read by the script that wrote it."""
        place = place_of(address)
        if not place.path or not self._is_ours(place.owner, place.owner_id):
            raise unknown("this job has no such artifact")
        try:
            fd = os.open(self.root / place.below, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as exc:
            raise unknown("this job has no such artifact") from exc
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise unknown("this is a folder, not an artifact")
        return os.fdopen(fd, "rb", buffering=0), status.st_size

    def walk(self) -> Iterator[tuple[str, int]]:
        """Every stored file: its path below the root, and its size."""
        for folder, folders, names in os.walk(self.root):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                yield path.relative_to(self.root).as_posix(), path.stat(follow_symlinks=False).st_size

    # ── For uploads ─────────────────────────────────────────────────────────

    def claim(self, size_bytes: int) -> bool:
        if self.size_bytes + size_bytes > self._most_bytes:
            return False
        self.size_bytes += size_bytes
        return True

    def give_back(self, size_bytes: int) -> None:
        self.size_bytes -= size_bytes

    def put(self, place: Place, temporary: Path) -> None:
        """Rename a whole upload to its place. Raises OSError where a folder or file is in the way."""
        target = self.root / place.below
        target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        replaced = target.stat(follow_symlinks=False).st_size if target.is_file() else None
        temporary.replace(target)
        if replaced is None:
            self.files += 1
        else:
            self.size_bytes -= replaced


def _shown(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
