"""Alembic's environment: it migrates the connection that the store hands over."""

from alembic import context

from celeryflows.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=False,
    version_table="flows_schema",
)
with context.begin_transaction():
    context.run_migrations()
