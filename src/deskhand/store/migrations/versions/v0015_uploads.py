"""Uploads in parts. Safe before deploy: new tables."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

# SQLite makes only INTEGER keys its row number; PostgreSQL needs 64 bits.
_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "uploads",
        sa.Column("seq", _SEQ, sa.Identity(), primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("file_expires_after", sa.BigInteger),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("file_id", sa.Text),
    )
    op.create_index("uploads_of_projects", "uploads", ["project_id", "state"])
    op.create_index("uploads_aging", "uploads", ["expires_at"])
    op.create_table(
        "upload_parts",
        sa.Column("seq", _SEQ, sa.Identity(), primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        # No cascade: a part goes when its bytes do.
        sa.Column("upload_id", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("blob", sa.Text, nullable=False),
    )
    op.create_index("upload_parts_of_uploads", "upload_parts", ["upload_id", "seq"])
    op.create_index("upload_parts_blobs", "upload_parts", ["blob"])
