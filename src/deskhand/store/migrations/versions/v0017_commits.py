"""What each process has committed last, for the one that loses the answer. Safe before deploy: a new table."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Make the table. SQLite is in the process that uses it: there is no answer to lose."""
    if op.get_context().dialect.name != "postgresql":
        return
    op.create_table(
        "commits",
        sa.Column("writer", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )
