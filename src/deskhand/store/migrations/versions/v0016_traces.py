"""Traces that clients record of their own work, and the spans of them. Safe before deploy: new tables."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

# SQLite makes only INTEGER keys its row number; PostgreSQL needs 64 bits.
_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "traces",
        sa.Column("seq", _SEQ, sa.Identity(), primary_key=True),
        # Clients choose ids, so two projects may have the same.
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("group_id", sa.Text),
        sa.Column("body", sa.Text, nullable=False),
        sa.UniqueConstraint("project_id", "id", name="traces_id"),
    )
    op.create_index("traces_listed", "traces", ["project_id", "created_at", "seq"])
    op.create_index("traces_aging", "traces", ["created_at"])
    op.create_table(
        "trace_spans",
        sa.Column("seq", _SEQ, sa.Identity(), primary_key=True),
        sa.Column("trace_seq", sa.BigInteger, sa.ForeignKey("traces.seq", ondelete="CASCADE"), nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("response_id", sa.Text),
        sa.Column("body", sa.Text, nullable=False),
        sa.UniqueConstraint("trace_seq", "id", name="trace_spans_id"),
    )
    op.create_index("trace_spans_listed", "trace_spans", ["trace_seq", "created_at", "seq"])
    of_responses = sa.text("response_id IS NOT NULL")
    op.create_index(
        "trace_spans_response", "trace_spans", ["response_id"], sqlite_where=of_responses, postgresql_where=of_responses
    )
