"""Responses, items, files, containers and their files. Safe before deploy: there is nothing yet.

Every row has an owner: `project_id`, its own or that of the response or container it belongs to. `seq` is the order of
insertion, which breaks ties between objects of the same second.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# SQLite makes only INTEGER keys its row number; PostgreSQL needs 64 bits.
_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_UNFINISHED = sa.text("status IN ('queued', 'in_progress')")


def upgrade() -> None:
    """Make the tables."""
    _responses()
    _items()
    _files()
    _containers()
    _container_files()


def _responses() -> None:
    op.create_table(
        "responses",
        sa.Column("seq", _SEQ, sa.Identity(), primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("project_id", sa.Text, nullable=False),
        # No foreign key: the response before may be one that was never stored, or is deleted by now.
        sa.Column("previous_id", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("hidden", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("responses_previous", "responses", ["previous_id"])
    op.create_index(
        "responses_unfinished", "responses", ["seq"], sqlite_where=_UNFINISHED, postgresql_where=_UNFINISHED
    )


def _items() -> None:
    op.create_table(
        "items",
        sa.Column("response_id", sa.Text, sa.ForeignKey("responses.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("side", sa.SmallInteger, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("item_id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("items_item", "items", ["item_id"])


def _files() -> None:
    op.create_table(
        "files",
        sa.Column("seq", _SEQ, sa.Identity(), primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("blob", sa.Text, nullable=False),
    )
    op.create_index("files_listed", "files", ["project_id", "created_at", "seq"])
    op.create_index("files_expiring", "files", ["expires_at"])
    op.create_index("files_blob", "files", ["blob"])


def _containers() -> None:
    op.create_table(
        "containers",
        sa.Column("seq", _SEQ, sa.Identity(), primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("last_active_at", sa.BigInteger, nullable=False),
        sa.Column("expires_after_minutes", sa.Integer, nullable=False),
        sa.Column("memory_limit", sa.Text, nullable=False),
    )
    op.create_index("containers_listed", "containers", ["project_id", "created_at", "seq"])
    op.create_index("containers_state", "containers", ["state", "project_id"])


def _container_files() -> None:
    op.create_table(
        "container_files",
        sa.Column("seq", _SEQ, sa.Identity(), primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("container_id", sa.Text, sa.ForeignKey("containers.id", ondelete="CASCADE"), nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("container_id", "path", name="container_files_path"),
    )
