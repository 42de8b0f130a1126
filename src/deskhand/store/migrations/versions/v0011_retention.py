"""Keys of requests that are done once, and what old responses are found by. Safe before deploy: tables, an index."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

# SQLite makes only INTEGER keys its row number; PostgreSQL needs 64 bits.
_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_SEEN = sa.text("hidden = 0")


def upgrade() -> None:
    """Make the tables and the index."""
    op.create_index("responses_aging", "responses", ["created_at"], sqlite_where=_SEEN, postgresql_where=_SEEN)
    op.create_table(
        "idempotency_keys",
        sa.Column("seq", _SEQ, sa.Identity(), primary_key=True),
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("token", sa.Text, nullable=False, unique=True),
        sa.Column("ended", sa.SmallInteger, nullable=False),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        # No foreign key: the name comes before the response, and outlives it.
        sa.Column("response_id", sa.Text, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("project_id", "key", name="idempotency_keys_key"),
    )
    op.create_index("idempotency_keys_counted", "idempotency_keys", ["project_id", "expires_at"])
    op.create_index("idempotency_keys_expiring", "idempotency_keys", ["expires_at"])
    probe = op.create_table(
        "storage_probe",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("checked_at", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(probe, [{"id": 1, "checked_at": 0}])
