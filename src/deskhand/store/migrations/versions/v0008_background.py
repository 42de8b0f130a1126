"""Background runs: who runs a response, its request, its events and its model calls. Safe before deploy: columns have
defaults, and an older server ends what it finds unfinished as it always did.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make the tables, and the columns of responses."""
    op.add_column("responses", sa.Column("background", sa.SmallInteger, nullable=False, server_default="0"))
    op.add_column("responses", sa.Column("streamed", sa.SmallInteger, nullable=False, server_default="0"))
    op.add_column("responses", sa.Column("cancelling", sa.SmallInteger, nullable=False, server_default="0"))
    op.add_column("responses", sa.Column("process", sa.Text, nullable=False, server_default=""))
    op.add_column("responses", sa.Column("epoch", sa.Integer, nullable=False, server_default="1"))
    op.add_column("responses", sa.Column("request", sa.Text))
    _events()
    _model_calls()
    op.create_table(
        "processes",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("beats", sa.BigInteger, nullable=False),
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("response_id", sa.Text, sa.ForeignKey("responses.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("sequence_number", sa.Integer, primary_key=True),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("output_index", sa.Integer),
        sa.Column("body", sa.Text, nullable=False),
        # One tree, in the order in which events are read.
        sqlite_with_rowid=False,
    )


def _model_calls() -> None:
    op.create_table(
        "model_calls",
        sa.Column("response_id", sa.Text, sa.ForeignKey("responses.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("ended_at", sa.BigInteger, nullable=False),
        sa.Column("turn", sa.Text, nullable=False),
        sa.Column("produced", sa.Integer, nullable=False),
        sa.Column("usage", sa.Text),
    )
