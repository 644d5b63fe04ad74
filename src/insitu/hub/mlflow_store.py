"""MLflow's tracking store and model registry, opened in this process.

Importing this module imports MLflow, which takes seconds and some 200 MB:
`tracking.Tracking` does it in a thread of its own, and nobody else does.

The store is a SQLite file of its own, or a schema of its own in the hub's
PostgreSQL database: MLflow and the hub both keep a table `alembic_version`, and
neither may find the other's. Tables are made and brought up to date here, by one
process at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.db import utils as database
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as TrackingStore

from insitu.domain.errors import ConflictError, InsituError, InvalidInputError, NotFoundError, UnavailableError

ARTIFACT_ROOT = "mlflow-artifacts:/"
"""Where runs say that their files are: with whoever serves them, so clients fetch them through the hub."""

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_MIGRATION_LOCK = 0x1251_7C00  # PostgreSQL advisory lock: any number, the same in each hub process

_ERRORS: dict[str, tuple[type[InsituError], str]] = {
    "RESOURCE_DOES_NOT_EXIST": (NotFoundError, "not-found"),
    "NOT_FOUND": (NotFoundError, "not-found"),
    "INVALID_PARAMETER_VALUE": (InvalidInputError, "tracking-invalid"),
    "RESOURCE_ALREADY_EXISTS": (ConflictError, "tracking-exists"),
    "INVALID_STATE": (ConflictError, "tracking-state"),
}


@dataclass(frozen=True)
class Stores:
    """What one hub's MLflow consists of."""

    tracking: TrackingStore
    registry: RegistryStore
    artifacts: LocalArtifactRepository
    artifacts_dir: Path

    def place_of(self, artifact_uri: str) -> Path:
        """The folder at the hub that an artifact URI of this store means.

        Raises:
            InvalidInputError: it points anywhere else. Only the hub writes these, so it should not happen.
        """
        inside, root = artifact_uri.removeprefix(ARTIFACT_ROOT), self.artifacts_dir.resolve()
        place = (root / inside).resolve()
        if inside == artifact_uri or place == root or not place.is_relative_to(root):
            raise InvalidInputError(
                "the model's files lie outside of this hub's artifact folder", code="tracking-invalid"
            )
        return place

    def close(self) -> None:
        """Give back the connections; the stores can't be used after it."""
        for kind in (TrackingStore, RegistryStore):
            engine = kind._engine_map.pop(self.tracking.db_uri, None)
            if engine is not None:
                engine.dispose()


def open_stores(store_uri: str, artifacts_dir: Path, *, schema: str) -> Stores:
    """Open the stores, making or upgrading their tables first.

    Raises:
        InvalidInputError: the address names no SQLite file and no PostgreSQL database.
        UnavailableError: the database can't be reached, or its tables belong to a newer MLflow.
    """
    uri = _address(store_uri, schema)
    artifacts_dir.mkdir(parents=True, exist_ok=True)
    try:
        _prepare(uri, schema)
        tracking = TrackingStore(uri, ARTIFACT_ROOT)
        # One pool of connections for both.
        RegistryStore._engine_map[uri] = tracking.engine
        registry = RegistryStore(uri)
    except Exception as exc:  # whatever a driver raises
        raise UnavailableError(
            "MLflow's store could not be opened",
            code="tracking-store",
            why=_first_line(exc),
            hint=f"check that the database can be reached and that its user may create the schema {schema!r}",
        ) from exc
    return Stores(tracking, registry, LocalArtifactRepository(artifacts_dir.resolve().as_uri()), artifacts_dir)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn MLflow's errors into ours; `what` happened, one sentence."""
    try:
        yield
    except MlflowException as exc:
        kind, code = _ERRORS.get(str(exc.error_code), (UnavailableError, "tracking-store"))
        raise kind(what, code=code, why=_first_line(exc)) from exc


def _address(store_uri: str, schema: str) -> str:
    """`store_uri` with the driver that is installed and, in PostgreSQL, with our schema as the only one searched."""
    parts = urlsplit(store_uri)
    if parts.scheme == "sqlite":
        return store_uri
    if parts.scheme not in {"postgresql", "postgres", "postgresql+psycopg"}:
        raise InvalidInputError(
            f"MLflow's store can't be at an address that starts with {parts.scheme!r}",
            hint="use sqlite:///<file> or postgresql+psycopg://<user>@<host>/<database>",
        )
    if not _SCHEMA.fullmatch(schema):
        raise InvalidInputError(f"{schema!r} can't name a schema", hint="use a-z, 0-9 and _")
    query = dict(parse_qsl(parts.query))
    query["options"] = f"{query.get('options', '')} -csearch_path={schema}".strip()
    return urlunsplit(("postgresql+psycopg", parts.netloc, parts.path, urlencode(query, quote_via=quote), ""))


def _prepare(uri: str, schema: str) -> None:
    """Make the schema, and make or upgrade the tables in it."""
    database._make_parent_dirs_if_sqlite(uri)
    engine = database.create_sqlalchemy_engine(uri)
    try:
        if engine.dialect.name == "sqlite":
            with engine.connect() as connection:
                # People who read don't wait for the hub that writes. Lasting: it is a property of the file.
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            _make_tables(engine)
            return
        with engine.connect() as connection, _only_one(connection):
            connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            connection.commit()
            _make_tables(engine)
    finally:
        engine.dispose()


@contextmanager
def _only_one(connection: Any) -> Iterator[None]:
    """Hold the lock under which hub processes that start together take turns."""
    connection.exec_driver_sql(f"SELECT pg_advisory_lock({_MIGRATION_LOCK})")
    try:
        yield
    finally:
        # A connection that broke has lost its lock already.
        with suppress(Exception):
            connection.exec_driver_sql(f"SELECT pg_advisory_unlock({_MIGRATION_LOCK})")


def _make_tables(engine: Any) -> None:
    if database._is_empty_database(engine) or not database._all_tables_exist(engine):
        database._initialize_tables(engine)
    elif database._get_schema_version(engine) != database._get_latest_schema_revision():
        database._upgrade_db(engine)


def _first_line(exc: BaseException) -> str:
    return (str(exc).strip() or type(exc).__name__).splitlines()[0][:300]
