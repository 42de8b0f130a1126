"""Conversations. Safe before deploy: new tables, and columns of responses that may be null."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

# SQLite makes only INTEGER keys its row number; PostgreSQL needs 64 bits.
_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_UNFINISHED = sa.text("status IN ('queued', 'in_progress')")
_OF_CONVERSATIONS = sa.text("conversation_id IS NOT NULL")
_HIDDEN = sa.text("hidden = 1")


def upgrade() -> None:
    """Make the tables, and the columns of responses."""
    op.create_table(
        "conversations",
        sa.Column("seq", _SEQ, sa.Identity(), primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        # Rises with every change of the items; an item's position is the revision that it came with.
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("hidden", sa.SmallInteger, nullable=False, server_default="0"),
    )
    op.create_index("conversations_hidden", "conversations", ["seq"], sqlite_where=_HIDDEN, postgresql_where=_HIDDEN)
    op.create_table(
        "conversation_items",
        sa.Column("conversation_id", sa.Text, sa.ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("position", sa.BigInteger, primary_key=True),
        sa.Column("item_id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    # Not unique: ids of items that an upstream made are the upstream's, and a response must always be able to end.
    op.create_index("conversation_items_item", "conversation_items", ["item_id", "conversation_id", "position"])
    _responses()


def _responses() -> None:
    op.add_column("responses", sa.Column("conversation_id", sa.Text))
    op.add_column("responses", sa.Column("conversation_revision", sa.BigInteger))
    op.create_index(
        "responses_conversation",
        "responses",
        ["conversation_id"],
        sqlite_where=_OF_CONVERSATIONS,
        postgresql_where=_OF_CONVERSATIONS,
    )
    # The lock of a conversation: no row of its own, and gone with the end of the response that holds it.
    op.create_index(
        "responses_conversation_lock",
        "responses",
        ["conversation_id"],
        unique=True,
        sqlite_where=_UNFINISHED,
        postgresql_where=_UNFINISHED,
    )
