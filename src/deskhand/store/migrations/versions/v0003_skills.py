"""Skills and their versions. Safe before deploy: only new tables."""

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables."""
