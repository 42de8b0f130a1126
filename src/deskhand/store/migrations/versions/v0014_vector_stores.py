"""Vector stores, their files and batches, and their chunks with what finds them. Safe before deploy: new tables.

SQLite finds words through FTS5, which triggers keep current; PostgreSQL through a stored tsvector, and near vectors
through pgvector if that can be had when this runs.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

# SQLite makes only INTEGER keys its row number; PostgreSQL needs 64 bits.
_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")
# No number is given twice (sqlite_autoincrement): what is left of something must not come to belong to something new.
_WAITING = sa.text("status = 'in_progress'")


def upgrade() -> None:
    """Make the tables."""
    _stores()
    _files()
    _chunks()
    if op.get_bind().dialect.name == "sqlite":
        _sqlite_words()
    else:
        _postgres_words()
        _postgres_vectors()


def _stores() -> None:
    op.create_table(
        "vector_stores",
        sa.Column("seq", _SEQ, sa.Identity(), primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("last_active_at", sa.BigInteger, nullable=False),
        sa.Column("expires_days", sa.Integer, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("embedding_model", sa.Text, nullable=False),
        sa.Column("dimensions", sa.Integer, nullable=False),
        # Grows when what a search may find changes.
        sa.Column("revision", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("vector_stores_listed", "vector_stores", ["project_id", "created_at", "seq"])
    op.create_index("vector_stores_aging", "vector_stores", ["expires_at"])
    op.create_table(
        "vector_store_batches",
        sa.Column("seq", _SEQ, sa.Identity(), primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("store_seq", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("cancelled", sa.Integer, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("vector_store_batches_of", "vector_store_batches", ["store_seq"])


def _files() -> None:
    table = "vector_store_files"
    op.create_table(
        table,
        sa.Column("seq", _SEQ, sa.Identity(), primary_key=True),
        sa.Column("store_seq", sa.BigInteger, nullable=False),
        sa.Column("batch_seq", sa.BigInteger, nullable=False),
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("file_id", sa.Text, nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("error_code", sa.Text, nullable=False),
        sa.Column("error_message", sa.Text, nullable=False),
        sa.Column("attributes", sa.Text, nullable=False),
        sa.Column("chunk_tokens", sa.Integer, nullable=False),
        sa.Column("overlap_tokens", sa.Integer, nullable=False),
        sa.Column("usage_bytes", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("store_seq", "file_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("vector_store_files_listed", table, ["store_seq", "created_at", "seq"])
    op.create_index("vector_store_files_counted", table, ["store_seq", "status", "usage_bytes"])
    op.create_index("vector_store_files_of_batch", table, ["batch_seq", "status"])
    op.create_index("vector_store_files_of_file", table, ["file_id"])
    op.create_index(
        "vector_store_files_due", table, ["due_at", "seq"], sqlite_where=_WAITING, postgresql_where=_WAITING
    )


def _chunks() -> None:
    op.create_table(
        "vector_store_chunks",
        sa.Column("seq", _SEQ, sa.Identity(), primary_key=True),
        # No foreign keys: a file's chunks go a few at a time after it, as there may be thousands.
        sa.Column("store_seq", sa.BigInteger, nullable=False),
        sa.Column("file_seq", sa.BigInteger, nullable=False),
        sa.Column("repeated", sa.Integer, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("vector", sa.LargeBinary),
        sqlite_autoincrement=True,
    )
    op.create_index("vector_store_chunks_of_file", "vector_store_chunks", ["file_seq", "seq"])
    op.create_index("vector_store_chunks_of_store", "vector_store_chunks", ["store_seq", "seq"])
    op.create_table("vector_store_trash", sa.Column("file_seq", sa.BigInteger, primary_key=True, autoincrement=False))


def _sqlite_words() -> None:
    # What FTS5 keeps of a row can be taken out only by showing it the row as it was.
    op.execute(
        "CREATE VIRTUAL TABLE vector_store_words USING fts5(store_seq, text, content = 'vector_store_chunks', "
        "content_rowid = 'seq', tokenize = 'porter unicode61 remove_diacritics 2')"
    )
    op.execute(
        "CREATE TRIGGER vector_store_chunks_added AFTER INSERT ON vector_store_chunks BEGIN "
        "INSERT INTO vector_store_words (rowid, store_seq, text) VALUES (new.seq, new.store_seq, new.text); END"
    )
    op.execute(
        "CREATE TRIGGER vector_store_chunks_removed AFTER DELETE ON vector_store_chunks BEGIN "
        "INSERT INTO vector_store_words (vector_store_words, rowid, store_seq, text) "
        "VALUES ('delete', old.seq, old.store_seq, old.text); END"
    )


def _postgres_words() -> None:
    op.execute(
        "ALTER TABLE vector_store_chunks ADD COLUMN words tsvector "
        "GENERATED ALWAYS AS (to_tsvector('english', text)) STORED"
    )
    op.execute("CREATE INDEX vector_store_chunks_words ON vector_store_chunks USING gin (words)")


def _postgres_vectors() -> None:
    bind = op.get_bind()
    if bind.exec_driver_sql("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone() is None:
        return
    bind.exec_driver_sql("SAVEPOINT pgvector")
    try:
        bind.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS vector")
        # Of any length, as each store has its own.
        bind.exec_driver_sql("ALTER TABLE vector_store_chunks ADD COLUMN embedding vector")
    except sa.exc.DBAPIError:
        # The user may not make extensions: the other way works without.
        bind.exec_driver_sql("ROLLBACK TO SAVEPOINT pgvector")
    bind.exec_driver_sql("RELEASE SAVEPOINT pgvector")
