"""Runs migrations on the connection that `monitoring.archive.database` opened, within its transaction."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes["version_table"],
    # The transaction is the caller's.
    transactional_ddl=False,
)
context.run_migrations()
