"""The isolation that a container was asked for with. Safe before deploy: the older server names its columns."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column."""
    op.add_column("containers", sa.Column("isolation", sa.Text, nullable=False, server_default=""))
