"""Alembic's entry: runs migrations on the connection that `store.migrate` hands it."""

from alembic import context

from insitu.hub.store import tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables.Base.metadata,
    # SQLite can't alter a column: Alembic rebuilds the table instead.
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
