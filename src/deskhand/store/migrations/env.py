"""What alembic runs around migrations. The connection comes from `store.migrate`, which owns the transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
