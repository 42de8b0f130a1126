"""Snapshots of containers. Safe before deploy: only new tables."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "snapshots",
        sa.Column("seq", _SEQ, sa.Identity(), primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("project_id", sa.Text, nullable=False),
        # No foreign key: a snapshot outlives its container.
        sa.Column("container_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("automatic", sa.SmallInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )
    op.create_index("snapshots_listed", "snapshots", ["container_id", "created_at", "seq"])
    op.create_index("snapshots_aging", "snapshots", ["automatic", "project_id", "created_at"])
    op.create_table(
        "response_snapshots",
        # No foreign key: a response that was deleted may be one whose computer is wanted.
        sa.Column("response_id", sa.Text, primary_key=True),
        sa.Column("snapshot_id", sa.Text, sa.ForeignKey("snapshots.id", ondelete="CASCADE"), primary_key=True),
    )
    op.create_index("response_snapshots_snapshot", "response_snapshots", ["snapshot_id"])
    op.create_table(
        "container_news",
        sa.Column("container_id", sa.Text, sa.ForeignKey("containers.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
    )
