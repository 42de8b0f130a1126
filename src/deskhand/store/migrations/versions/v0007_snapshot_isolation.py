"""The isolation of the container that a snapshot is of. Safe before deploy: the older server names its columns."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column, and fill it for containers that are still known."""
    op.add_column("snapshots", sa.Column("isolation", sa.Text, nullable=False, server_default=""))
    op.execute(
        "UPDATE snapshots SET isolation = COALESCE("
        "(SELECT c.isolation FROM containers c WHERE c.id = snapshots.container_id), '')"
    )
