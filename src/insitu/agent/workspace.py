"""A job's folders at the site: made, filled, frozen, removed.

jobs/<job>-<attempt>/
    code/       the snapshot, read-only in the sandbox
    outputs/    the only thing the job may write besides its scratch
    inputs/     copies of data that the job may write (mode `download`)
    intake/     what the gate wrote down while it ran
    keeper/     pid, result and self-test of the sandbox
    frozen/     outputs after the sandbox is gone: nothing writes here any more
    out/        canonical copies that the gate made; only these may leave
    journal     numbered events
    run/<8 hex digits>.g/s      the job's one socket, to the gate
    run/<8 hex digits>.c/s      the gate's, made by the agent: for words from it and the keeper
    run/<8 hex digits>.d/s      the agent's, for the gate: data that the job reads through it
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from insitu.agent.folder import open_to_gate
from insitu.domain.errors import IntegrityError, UnavailableError
from insitu.intake.request import GATE_FILES, LOGS

_MAX_CODE_BYTES = 512 << 20
_MAX_CODE_FILES = 20_000
_ROOT_MODE = 0o711
_GATE, _CONTROL = "gate", "control"  # what is not in an attempt's folder, while it is nobody's


@dataclass(frozen=True)
class Workspace:
    """The folders of one attempt."""

    root: Path

    @property
    def outputs(self) -> Path:
        return self.root / "outputs"

    @property
    def _sockets(self) -> Path:
        # Short, whatever the job is called: a unix socket's path has at most 107 bytes (unix(7)).
        return self.root.parent.parent / "run" / hashlib.sha256(self.root.name.encode()).hexdigest()[:8]

    @property
    def gate(self) -> Path:
        return self._sockets.with_suffix(".g")

    @property
    def socket(self) -> Path:
        return self.gate / "s"

    @property
    def control(self) -> Path:
        return self._sockets.with_suffix(".c") / "s"

    @property
    def feed(self) -> Path:
        return self._sockets.with_suffix(".d") / "s"

    @property
    def intake(self) -> Path:
        return self.root / "intake"

    def input_list(self, name: str) -> Path:
        """What the intake may name of a direct input."""
        return self.intake / "inputs" / f"{name}.json"

    @property
    def read_counts(self) -> Path:
        """Bytes that the job has read through its gate."""
        return self.root / "read.json"

    @property
    def inputs(self) -> Path:
        return self.root / "inputs"

    @property
    def keeper(self) -> Path:
        return self.root / "keeper"

    @property
    def frozen(self) -> Path:
        return self.root / "frozen"

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def journal(self) -> Path:
        return self.root / "journal"

    def make(self, *, gate_uid: int) -> None:
        """The folders that exist before the gate's process and the sandbox start; as far as they don't yet."""
        # The gate walks through the attempt's folder by its group; nobody else does.
        if os.geteuid() == 0:
            open_to_gate(self.root, gate_uid)
        self._make_rooms(self.gate, self.control.parent, gate_uid)

    def _make_rooms(self, gate: Path, control: Path, gate_uid: int) -> None:
        _make(self.intake, gate_uid)
        _make(gate, gate_uid, mode=0o711)
        # The socket in it is the agent's, who hands it over; the gate's process only looks whether it is still there.
        _make(control, mode=0o711)
        _make(self.keeper)

    def make_ahead(self, *, gate_uid: int) -> None:
        """All of them in `root`, which is nobody's yet: `become` gives them to an attempt.

        It is closed: no process of the gate's can leave anything there for a job that is to come.
        """
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(mode=0o700)
        self._make_rooms(self.root / _GATE, self.root / _CONTROL, gate_uid)
        _make(self.outputs)
        # What is made by whoever finds it missing, and is here already: new files and folders take a disk its time.
        self.journal.touch()
        _make(self.intake / LOGS, gate_uid, mode=0o750)
        for name in GATE_FILES:
            _make_empty(self.intake / name, gate_uid)

    def become(self, other: Workspace) -> None:
        """Be the folders of an attempt that has none.

        Raises:
            OSError: some are not; `make` makes what is missing.
        """
        os.rename(self.root / _GATE, other.gate)  # noqa: PTH104 - here and below: no path is wanted back
        os.rename(self.root / _CONTROL, other.control.parent)  # noqa: PTH104
        self.root.chmod(_ROOT_MODE)
        os.rename(self.root, other.root)  # noqa: PTH104

    def begin(self) -> None:
        """The attempt's own folder, if it is not there."""
        if not self.root.exists():
            self.root.mkdir(parents=True, exist_ok=True, mode=_ROOT_MODE)

    def make_feed(self, *, gate_gid: int) -> None:
        """The folder of the agent's socket for the gate, which passes through it and leaves nothing there."""
        self.feed.parent.mkdir(exist_ok=True, mode=0o700)
        if os.geteuid() == 0:
            open_to_gate(self.feed.parent, gate_gid)

    def forget_intake(self) -> None:
        """Remove what a gate process left that never had a job."""
        for folder in (self.intake, self.gate, self.control.parent):
            shutil.rmtree(folder, ignore_errors=True)

    def make_outputs(self, uid: int) -> None:
        """The folder that the job's own uid may write."""
        _make(self.outputs, uid)

    def make_out(self, uid: int) -> None:
        """The folder for canonical copies, which the judge writes; without what an earlier judgement left."""
        shutil.rmtree(self.out, ignore_errors=True)
        _make(self.out, uid)

    def freeze(self) -> None:
        """Take the outputs away from whoever may still hold them. Repeating it changes nothing.

        A child process may outlive its parent and still write, so this runs only
        after the sandbox is gone; the move then hides the old path as well.
        """
        if not self.frozen.exists() and self.outputs.exists():
            self.outputs.rename(self.frozen)
        for folder, _, files in os.walk(self.frozen):
            for name in files:
                path = Path(folder, name)
                if stat.S_ISREG(path.lstat().st_mode):
                    path.chmod(0o644, follow_symlinks=True)
            os.chmod(folder, 0o755, follow_symlinks=False)  # noqa: PTH101, S103 - Path.chmod can't refuse to follow

    def remove(self) -> None:
        for folder in (self.root, self.gate, self.control.parent, self.feed.parent):
            shutil.rmtree(folder, ignore_errors=True)


def _make(path: Path, uid: int | None = None, *, mode: int = 0o700) -> None:
    """A folder of that mode and, if we are root, of that owner, who is its group as well. Does only what is to be done.

    Raises:
        FileExistsError: something else lies there, a link for example.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        path.mkdir()
        found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise FileExistsError(errno.EEXIST, "something that is no folder lies there", str(path))
    if stat.S_IMODE(found.st_mode) != mode:
        path.chmod(mode)
    if uid is not None and (found.st_uid, found.st_gid) != (uid, uid) and os.geteuid() == 0:
        os.chown(path, uid, uid)


def _make_empty(path: Path, uid: int) -> None:
    """A file that is new here."""
    path.touch(mode=0o640, exist_ok=False)
    if os.geteuid() == 0:
        os.chown(path, uid, uid)


def give_to_gate(known: Path, target: Path) -> None:
    """Let one job's gate process read a file of the site's cache at `target`: all of it, or it is not there.

    As root its uid is not ours, so it can read the very file and change nothing. Otherwise all have one uid, and it
    gets a copy: it could write to what it shares with others.
    """
    if os.geteuid() == 0:
        known.chmod(0o644)
        target.unlink(missing_ok=True)  # given before a crash
        with suppress(OSError):  # the cache may lie on another disk
            os.link(known, target)
            return
    partial = target.with_suffix(".partial")
    partial.unlink(missing_ok=True)  # the folder is the gate's: what lies there may be a link
    shutil.copyfile(known, partial)
    partial.chmod(0o644)
    partial.replace(target)


def unpack_code(snapshot: Path, target: Path) -> None:
    """Unpack a code snapshot (a tar of plain files) into `target`, whole or not at all.

    Raises:
        IntegrityError: it holds anything but plain files and folders inside it.
        UnavailableError: it is larger than a snapshot may be.
    """
    work = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        with tarfile.open(snapshot) as archive:
            members = archive.getmembers()
            if len(members) > _MAX_CODE_FILES or sum(member.size for member in members) > _MAX_CODE_BYTES:
                raise UnavailableError(
                    "the code snapshot is too large",
                    code="code-too-large",
                    measure=f"{len(members)} files",
                    limit=f"{_MAX_CODE_FILES} files, 512 MiB",
                    hint="list what the job does not need in .insituignore",
                )
            for member in members:
                if not (member.isfile() or member.isdir()):
                    raise IntegrityError("the code snapshot holds a link or a device", code="code-snapshot")
                _extract(archive, member, work)
    except (tarfile.TarError, OSError) as exc:
        shutil.rmtree(work, ignore_errors=True)
        raise IntegrityError("the code snapshot can't be unpacked", code="code-snapshot") from exc
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    _let_others_read(work)
    work.replace(target)


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """One plain file or folder, by hand: `tarfile`'s own filters came only with Python 3.11.4.

    Raises:
        IntegrityError: its name leads outside.
    """
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise IntegrityError("the code snapshot holds a name that leads outside", code="code-snapshot")
    target = folder / name
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    source = archive.extractfile(member)
    if source is None:
        raise IntegrityError("the code snapshot holds something that is no file", code="code-snapshot")
    with source, target.open("xb") as out:
        shutil.copyfileobj(source, out)
    target.chmod(0o700 if member.mode & 0o100 else 0o600)


def _let_others_read(folder: Path) -> None:
    """The job's own uid reads it through a read-only mount; nobody reaches it by its path."""
    for parent, _, files in os.walk(folder):
        os.chmod(parent, 0o755)  # noqa: PTH101, S103 - seen through a read-only mount alone
        for name in files:
            path = Path(parent, name)
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
