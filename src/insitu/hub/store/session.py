"""Sessions over SQLite or PostgreSQL. Reading and writing are different types.

A function that takes a `ReadSession` can't write: on SQLite its connection is
`query_only`, on PostgreSQL its transaction is read-only. A `WriteSession` is one
transaction; it commits when its block ends and rolls back when the block raises.
No network call belongs inside one. What has to hear of a change is named with
`wake` and told after the commit, never before.

SQLite: WAL with synchronous=FULL, since what we acknowledge must survive a power
cut (sqlite.org/pragma.html#pragma_synchronous); one writer at a time by a pool of
one connection; one hub process, by a file lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVarTuple, overload

import orjson
import psycopg
from sqlalchemy import Connection, Engine, Executable, create_engine, event, exc, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import CursorResult, Result
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool
from sqlalchemy.sql.selectable import TypedReturnsRows

from insitu.domain.errors import ConflictError, InsituError, InvalidInputError, UnavailableError
from insitu.hub.store import tables
from insitu.hub.store.tails import StoredBatch, Tails

CHANNEL = "insitu_wake"

_Columns = TypeVarTuple("_Columns")


class ReadSession:
    """One consistent look at the database.

    Statements over plain tables, as all on the hot paths are, go straight to the
    connection. The ORM's machinery, which costs more than SQLite does, is there for
    those that ask for objects.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._objects: Session | None = None

    @overload
    def rows(self, statement: TypedReturnsRows[*_Columns], parameters: Any = None) -> Result[*_Columns]: ...

    @overload
    def rows(self, statement: Executable, parameters: Any = None) -> Result[*tuple[Any, ...]]: ...

    def rows(self, statement: Executable, parameters: Any = None) -> Result[*tuple[Any, ...]]:
        if _is_plain(statement):
            return self._connection.execute(statement, parameters)
        # Rows as they are now: what an earlier look kept in memory may have been changed since by `change`.
        return self._orm.execute(statement, parameters, execution_options={"populate_existing": True})

    @property
    def on_postgres(self) -> bool:
        return self._connection.dialect.name == "postgresql"

    @property
    def _orm(self) -> Session:
        """A session that takes part in the connection's transaction; it neither commits nor ends it."""
        if self._objects is None:
            self._objects = Session(self._connection, expire_on_commit=False)
        return self._objects


class WriteSession(ReadSession):
    """One transaction that changes things."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.topics: dict[str, None] = {}
        """In the order in which they were named."""
        self.streamed: list[tuple[str, StoredBatch]] = []
        """What was written to jobs' streams."""

    def change(self, statement: Executable, parameters: Any = None) -> int:
        """Run a change and return how many rows it touched: 0 means that somebody was faster."""
        options = {"preserve_rowcount": True}  # else an insert forgets how many it made
        if _is_plain(statement):
            result = self._connection.execute(statement, parameters, execution_options=options)
        else:
            options["synchronize_session"] = False
            result = self._orm.execute(statement, parameters, execution_options=options)
        assert isinstance(result, CursorResult), "a change says how many rows it touched"
        return result.rowcount

    def add(self, row: tables.Base) -> None:
        self._orm.add(row)
        self._orm.flush()

    def insert(self, table: type[tables.Base]) -> sqlite.Insert | postgresql.Insert:
        """An insert that knows `on_conflict_…`, in this database's dialect."""
        return insert_into(table, on_postgres=self.on_postgres)

    def wake(self, topic: str) -> None:
        """Tell whoever waits for `topic`, once this is committed."""
        self.topics[topic] = None

    def tail(self, job_id: str, batch: StoredBatch) -> None:
        """Keep for those who follow the job what it was written, once this is committed."""
        self.streamed.append((job_id, batch))

    def one_at_a_time(self, name: str) -> None:
        """Until the end of this transaction nobody else passes here. SQLite has one writer anyway."""
        if self.on_postgres:
            self.rows(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"insitu:{name}"})


def _is_plain(statement: Executable) -> bool:
    """Whether it is about tables and not about mapped classes, which mark what is made of them."""
    return not getattr(statement, "_propagate_attrs", None)


def insert_into(table: type[tables.Base], *, on_postgres: bool) -> sqlite.Insert | postgresql.Insert:
    # Into the plain table: an insert by a mapped class goes through the machinery of objects, at three times the cost.
    plain = tables.table_of(table)
    return postgresql.insert(plain) if on_postgres else sqlite.insert(plain)


class Store:
    """The database.

    `announce` is called with each topic after the commit that named it, and `announced`
    once the database is free for others again.
    """

    def __init__(
        self,
        url: str,
        *,
        announce: Callable[[str], None] = lambda _: None,
        announced: Callable[[], None] = lambda: None,
    ) -> None:
        self.url = url
        self.on_postgres = url.startswith("postgresql")
        self._announce, self._announced = announce, announced
        self.tails = Tails()
        # Told apart from what this process itself said, which it has announced already.
        self._process = uuid.uuid4().hex
        self._stop = threading.Event()
        self._listener: threading.Thread | None = None
        if self.on_postgres:
            self._writer = _postgres(url)
            self._reader = self._writer.execution_options(postgresql_readonly=True)
        else:
            self._writer, self._reader = _sqlite(url, writes=True), _sqlite(url, writes=False)
        for engine in {self._writer, self._reader}:
            event.listen(engine, "checkin", self._given_back)

    def _given_back(self, connection: Any, _: object) -> None:
        # A thread that was still reading when the store was closed: its pool is gone, so nobody else would close this.
        if self._stop.is_set() and connection is not None:
            connection.close()

    @contextmanager
    def read(self) -> Iterator[ReadSession]:
        with _explained(), self._reader.connect() as connection:
            yield ReadSession(connection)

    @contextmanager
    def write(self) -> Iterator[WriteSession]:
        with _explained(), self._writer.connect() as connection:
            session = WriteSession(connection)
            yield session
            if self.on_postgres:
                for topic in session.topics:
                    connection.execute(
                        text("SELECT pg_notify(:channel, :body)"),
                        {"channel": CHANNEL, "body": f"{self._process} {topic}"},
                    )
            connection.commit()
            for job_id, batch in session.streamed:
                self.tails.put(job_id, batch)
            # Before the connection is given back: somebody waits for this, and for that nobody.
            for topic in session.topics:
                self._announce(topic)
        self._announced()

    @contextmanager
    def turn(self, name: str) -> Iterator[bool]:
        """Whether this process may do `name` now. With several processes over PostgreSQL one at a time may."""
        if not self.on_postgres:
            yield True
            return
        with _explained(), self._writer.connect() as connection:
            key = {"name": f"insitu:turn:{name}"}
            mine = bool(connection.scalar(text("SELECT pg_try_advisory_lock(hashtext(:name))"), key))
            connection.commit()
            try:
                yield mine
            finally:
                if mine:
                    connection.execute(text("SELECT pg_advisory_unlock(hashtext(:name))"), key)
                    connection.commit()

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """For migrations alone."""
        with _explained():
            yield self._writer

    def listen(self) -> None:
        """Hear what other hub processes over the same PostgreSQL change. On SQLite there are none."""
        if self.on_postgres and self._listener is None:
            self._listener = threading.Thread(target=self._hear, name="listen", daemon=True)
            self._listener.start()

    def _hear(self) -> None:
        address = self.url.replace("postgresql+psycopg://", "postgresql://", 1)
        while not self._stop.is_set():
            try:
                with psycopg.connect(address, autocommit=True) as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    while not self._stop.is_set():
                        for note in connection.notifies(timeout=0.5):
                            process, _, topic = note.payload.partition(" ")
                            if process != self._process:
                                self._announce(topic)
                                self._announced()
            except psycopg.Error:
                # The sweep each second is the net while the database is away.
                self._stop.wait(1)

    def close(self) -> None:
        self._stop.set()
        if self._listener is not None:
            self._listener.join(timeout=3)
        self._reader.dispose()
        self._writer.dispose()


class ProcessLock:
    """Held by the one hub process of a data folder; the kernel lets it go when that process dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            UnavailableError: another hub process has it.
        """
        if not self.try_acquire():
            raise UnavailableError(
                f"another hub is running on {self._path.parent}",
                code="hub-running",
                why="a SQLite database belongs to one hub process",
                hint="stop that one first, or give both a PostgreSQL database",
            )

    def try_acquire(self) -> bool:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _sqlite(url: str, *, writes: bool) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        # The pool of one is the queue of writers: they wait here, in order, instead of in SQLite's busy handler.
        pool_size=1 if writes else 20,
        max_overflow=0 if writes else 40,
        pool_timeout=60,
        connect_args={"check_same_thread": False, "timeout": 30},
        json_serializer=_json_text,
        json_deserializer=orjson.loads,
    )

    @event.listens_for(engine, "connect")
    def _settle(connection: Any, _: object) -> None:
        # The driver must not begin transactions by itself: what begins one is chosen below.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}")
        if not writes:
            connection.execute("PRAGMA query_only=ON")

    # IMMEDIATE: a reader that turns writer half way could find its snapshot stale and fail.
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # To the driver itself: every request begins one, and there is nothing in it for the library to look at.
        driver: Any = connection.connection.driver_connection
        try:
            driver.execute(begin)
        except sqlite3.OperationalError as failure:  # as the library says it, and `_explained` expects it
            raise exc.OperationalError(begin, None, failure) from failure

    return engine


def _postgres(url: str) -> Engine:
    return create_engine(
        url,
        pool_size=20,
        max_overflow=20,
        pool_timeout=60,
        pool_pre_ping=True,
        json_serializer=_json_text,
        json_deserializer=orjson.loads,
    )


def _json_text(value: object) -> str:
    return orjson.dumps(value).decode()


@contextmanager
def _explained() -> Iterator[None]:
    """What a database refuses, in words of ours."""
    try:
        yield
    except InsituError:
        raise
    except (exc.DataError, OverflowError) as failure:
        raise InvalidInputError(
            "a value can't be stored",
            code="unstorable",
            why="a number is too large, or a text holds a NUL character",
        ) from failure
    except exc.IntegrityError as failure:
        raise ConflictError(
            "somebody else changed this at the same moment", code="conflict", hint="look at it again, then retry"
        ) from failure
    except exc.OperationalError as failure:
        raise UnavailableError(
            "the hub's database can't do it now",
            code="disk-full" if _is_full(failure) else "database",
            why="the disk is full" if _is_full(failure) else "it did not answer in time, or can't be reached",
            hint="free some space"
            if _is_full(failure)
            else "try again; `insitu doctor` on the hub's machine says more",
        ) from failure
    except exc.TimeoutError as failure:
        raise UnavailableError("the hub is busy", code="busy", hint="try again in a moment") from failure


def _is_full(failure: BaseException) -> bool:
    words = str(failure).lower()
    return "full" in words or os.strerror(errno.ENOSPC).lower() in words
