"""What a container was made with. Safe before deploy: the older server names its columns."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns."""
    for name, default in (("on_expired", "error"), ("network", ""), ("skills", "")):
        op.add_column("containers", sa.Column(name, sa.Text, nullable=False, server_default=default))
