"""On which host a container is, and where hosts serve. Safe before deploy: "" is the only host there was."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("containers", sa.Column("host", sa.Text, nullable=False, server_default=""))
    op.add_column("processes", sa.Column("url", sa.Text, nullable=False, server_default=""))
