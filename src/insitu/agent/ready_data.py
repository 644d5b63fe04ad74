"""A job's data, put ready: staged, or copied for it alone. The hub hears how far it is, in bytes of one digit."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from insitu.agent.attempt import Attempt
from insitu.agent.catalogue import DatasetVersion
from insitu.agent.datastores import open_datastore
from insitu.agent.direct.of_job import check_readable
from insitu.agent.stores.contract import StoreError
from insitu.domain.errors import DeniedError, IntegrityError, UnavailableError
from insitu.domain.quantities import format_bytes
from insitu.wire.job_file import DatasetInput

_log = logging.getLogger("insitu.agent")

_TELL_S = 1.0
_MOST_TOLD = 60  # messages of one staging


def ready_data(attempt: Attempt) -> list[tuple[str, DatasetVersion]]:
    """(input's name, version) for each dataset of the job, staged but for those that it reads directly.

    Raises:
        IntegrityError: a version is not what it was; names the version.
        UnavailableError: no room, or the datastore could not be asked; nothing of what it said is passed on.
        StoppedError: the job was cancelled or the agent stops.
    """
    data = attempt.datasets
    for name, version in data:
        if mode_of(attempt, name) == "direct":
            with _said_at_the_site(version):
                check_readable(attempt, version)
        else:
            stage(attempt, version)
    return data


def stage(attempt: Attempt, version: DatasetVersion) -> None:
    """One version, into the site's cache."""
    site = attempt.site
    told = _Telling(attempt, version.size_bytes)
    with _said_at_the_site(version):
        site.data.stage(
            version.staged,
            lambda: open_datastore(site.folder, version.datastore, site.environment),
            progress=told.progress,
            stop=lambda: attempt.cancelled.is_set() or attempt.detached.is_set(),
        )


@contextmanager
def _said_at_the_site(version: DatasetVersion) -> Generator[None]:
    try:
        yield
    except IntegrityError as exc:
        # `why` names the object, for the steward; the hub hears of the version alone.
        _log.warning("%s: %s", exc.what, exc.why)
        raise
    except StoreError as exc:
        _log.warning("staging %s: %s", version.label, exc)
        # What a store said is for the site: it names objects and addresses, and this error goes to the hub.
        raise UnavailableError(
            f"the data of {version.label} can't be had from the site's datastore",
            code=exc.code,
            rule=f"datastore-{exc.step}",
            why=str(exc),
            hint="at the site: `insitu datastore check`",
        ) from exc


def private_copies(attempt: Attempt, data: list[tuple[str, DatasetVersion]], uid: int) -> dict[str, Path]:
    """A copy of each input of mode `download`, which the job may write. Made again from the start after a crash.

    Raises:
        DeniedError: it is more than the job may have on the site's disk.
    """
    copies: dict[str, Path] = {}
    for name, version in data:
        if mode_of(attempt, name) != "download":
            continue
        limit = attempt.site.policy.require().sandbox.disk_bytes
        if version.size_bytes > limit:
            raise DeniedError(
                f"a private copy of {version.label} is more than a job may have on the site's disk",
                code="download-too-large",
                rule="sandbox.disk",
                limit=format_bytes(limit),
                hint="use mode ro_mount, which takes no room of the job's own",
            )
        copies[name] = attempt.workspace.inputs / name
        _copy(version.data, copies[name], uid)
    return copies


def mode_of(attempt: Attempt, name: str) -> str:
    given = attempt.verified.job.inputs.get(name)
    return given.mode if isinstance(given, DatasetInput) else "ro_mount"


def _copy(source: Path, target: Path, uid: int) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    for folder, _, files in os.walk(target):
        for path in (folder, *(f"{folder}/{name}" for name in files)):
            os.chmod(path, 0o700 if path == folder else 0o600)  # noqa: PTH101 - maybe a hundred thousand of them
            if os.geteuid() == 0:
                os.chown(path, uid, uid)


@dataclass
class _Telling:
    """Tells the hub now and then how far it is; what is quick is never told."""

    attempt: Attempt
    size_bytes: int
    clock: Callable[[], float] = time.monotonic
    _last: float = 0.0
    _said: tuple[int, int] = (0, 0)
    _count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._last = self.clock()

    def progress(self, done: int, of: int) -> None:
        now = self.clock()
        if now - self._last < _TELL_S:
            return
        with self._lock:
            said = (one_digit(done), one_digit(of))
            if now - self._last < _TELL_S or said == self._said or self._count >= _MOST_TOLD:
                return
            self._last, self._said, self._count = now, said, self._count + 1
        self.attempt.stream.add([{"kind": "staging", "done_bytes": said[0], "all_bytes": said[1]}])


def one_digit(count: int) -> int:
    """A number as it may leave: rounded to its first digit."""
    power = 10 ** max(0, len(str(count)) - 1)
    return round(count / power) * power
