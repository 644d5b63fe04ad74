"""Brings the database to the schema that this code wants. Run at each start.

Migrations are files under `migrations/versions`, numbered, forward only. A test
compares what they build with `tables.Base.metadata`, so neither can be forgotten.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text

from insitu.domain.errors import UnavailableError
from insitu.hub.store.session import Store

_FOLDER = Path(__file__).parent / "migrations"


def migrate(store: Store) -> None:
    """Apply what is missing, all of it or none.

    Raises:
        UnavailableError: the database was made by a newer hub, or can't be reached.
    """
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    with store.engine() as engine, engine.begin() as connection:
        if store.on_postgres:
            # Two hubs that start at once: the second waits, then finds nothing left to do.
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('insitu:migrate'))"))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as exc:
            raise UnavailableError(
                "the hub's database can't be used by this version",
                code="database-version",
                why="it was made by a newer one",
                hint="start the newer hub, or restore the backup that was made before the upgrade",
            ) from exc


def is_current(connection: Connection) -> bool:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    head = ScriptDirectory.from_config(config).get_current_head()
    return MigrationContext.configure(connection).get_current_revision() == head
