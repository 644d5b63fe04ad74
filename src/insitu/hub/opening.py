"""Opens a hub's data folder: the lock, the database, the key, the first token.

<data>/hub.lock      held by the one hub process, unless the database is PostgreSQL
<data>/hub.sqlite3   the database, unless one is given by URL
<data>/hub-key       the hub's signing key, mode 0600: countersigns ledger heads
<data>/admin-token   the first token, mode 0600: written once, when there are none
<data>/blobs, uploads, images, bases, mlflow
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from insitu.domain.errors import UnavailableError
from insitu.hub.actions.people import new_token
from insitu.hub.bell import Bell
from insitu.hub.settings import HubSettings
from insitu.hub.store import people
from insitu.hub.store.migrate import migrate
from insitu.hub.store.session import ProcessLock, Store
from insitu.wire.keys import SigningKey
from insitu.wire.people import NewToken, Role

_ADMIN_DAYS = 365


@dataclass(frozen=True)
class OpenedFolder:
    """A data folder that this process may work on."""

    store: Store
    key: SigningKey
    lock: ProcessLock

    def close(self) -> None:
        self.store.close()
        self.lock.release()


def open_folder(settings: HubSettings, *, bell: Bell, clock: Callable[[], datetime]) -> OpenedFolder:
    """Take the folder, bring the database up to date, and make what the first start needs.

    Raises:
        UnavailableError: another hub runs on it, or folder or database can't be used.
    """
    _make_folder(settings.data)
    lock = ProcessLock(settings.data / "hub.lock")
    if not settings.database_url:
        lock.acquire()
    try:
        store = Store(settings.sqlalchemy_url, announce=bell.announce, announced=bell.do_errands)
        migrate(store)
        key = _key(settings.key_file)
        _first_token(settings, store, clock())
    except BaseException:
        lock.release()
        raise
    return OpenedFolder(store, key, lock)


def create_token(
    settings: HubSettings,
    name: str,
    role: Role,
    *,
    days: int = 90,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> NewToken:
    """A token for `name`, made on the hub's own machine; the hub may run or not.

    Raises:
        InvalidInputError: the name can't name a person.
        UnavailableError: folder or database can't be used.
    """
    _make_folder(settings.data)
    store = Store(settings.sqlalchemy_url)
    try:
        _migrate_unless_running(settings, store)
        with store.write() as session:
            return new_token(session, name, role, days=days, now=clock())
    finally:
        store.close()


def _migrate_unless_running(settings: HubSettings, store: Store) -> None:
    lock = ProcessLock(settings.data / "hub.lock")
    # A hub that runs has done it, and its database must not change beneath it.
    if settings.database_url or lock.try_acquire():
        migrate(store)
        lock.release()


def _make_folder(data: Path) -> None:
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as exc:
        raise UnavailableError(
            f"the data folder {data} can't be used", code="data-folder", why=exc.strerror or "", hint="choose another"
        ) from exc


def _key(path: Path) -> SigningKey:
    if not path.exists():
        with suppress(FileExistsError):  # another hub process over the same folder was faster
            SigningKey.generate().save(path)
    return SigningKey.load(path)


def _first_token(settings: HubSettings, store: Store, now: datetime) -> None:
    """The admin's token, written where only the hub's own user can read it. Only while there is no token at all."""
    with store.write() as session:
        session.one_at_a_time("first-token")
        if people.any_token(session):
            return
        token = new_token(session, "admin", Role.ADMIN, days=_ADMIN_DAYS, now=now)
        # Before the commit: a token that nobody can read would lock everybody out.
        _write_secret(settings.admin_token_file, token.token)


def _write_secret(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text + "\n")
        stream.flush()
        os.fsync(stream.fileno())
