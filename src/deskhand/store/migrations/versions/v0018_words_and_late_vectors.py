"""Words of scripts without spaces, and vectors for what was indexed without. Safe before deploy: new columns.

PostgreSQL writes the table of chunks anew, and keeps everybody from it meanwhile.

`spelled` is the text as words are looked for in it (`core/queries.py`), where that is not the text itself; what was
indexed before stays as it is. PostgreSQL's parser would take `1.2.3`, `a/b` and `<b>` for a version, a path and a tag,
of which a question may have a part: it sees spaces in the place of punctuation, so that words are those of SQLite.

`bare` chunks have no vector and could have one: no embedding model was set when they were made.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0018"
down_revision = "0017"

_CHUNKS = "vector_store_chunks"
_BARE = sa.text("bare = 1")
_HAS_PGVECTOR = (
    "SELECT 1 FROM pg_attribute "
    f"WHERE attrelid = to_regclass('{_CHUNKS}') AND attname = 'embedding' AND NOT attisdropped"
)
# To a database whose locale is C, everything beyond ASCII is a letter: also quotes, dashes and full stops.
_PUNCTUATION = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~¡§«·»¿' + "".join(
    chr(code) for start, end in ((0x2010, 0x2060), (0x3001, 0x3004), (0x3008, 0x3020)) for code in range(start, end)
)


def upgrade() -> None:
    """Add the columns."""
    op.add_column(_CHUNKS, sa.Column("spelled", sa.Text))
    op.add_column(_CHUNKS, sa.Column("bare", sa.Integer, nullable=False, server_default="0"))
    op.create_index(
        "vector_store_chunks_bare", _CHUNKS, ["store_seq", "file_seq"], sqlite_where=_BARE, postgresql_where=_BARE
    )
    bind = op.get_bind()
    if bind.dialect.name == "sqlite":
        op.execute(f"UPDATE {_CHUNKS} SET bare = 1 WHERE vector IS NULL")
        _sqlite_words()
    else:
        none = " AND embedding IS NULL" if bind.exec_driver_sql(_HAS_PGVECTOR).fetchone() else ""
        op.execute(f"UPDATE {_CHUNKS} SET bare = 1 WHERE vector IS NULL{none}")
        _postgres_words()


def _sqlite_words() -> None:
    op.execute(f"DROP TRIGGER {_CHUNKS}_added")
    op.execute(f"DROP TRIGGER {_CHUNKS}_removed")
    op.execute(
        f"CREATE TRIGGER {_CHUNKS}_added AFTER INSERT ON {_CHUNKS} BEGIN "
        "INSERT INTO vector_store_words (rowid, store_seq, text) "
        "VALUES (new.seq, new.store_seq, coalesce(new.spelled, new.text)); END"
    )
    op.execute(
        f"CREATE TRIGGER {_CHUNKS}_removed AFTER DELETE ON {_CHUNKS} BEGIN "
        "INSERT INTO vector_store_words (vector_store_words, rowid, store_seq, text) "
        "VALUES ('delete', old.seq, old.store_seq, coalesce(old.spelled, old.text)); END"
    )


def _postgres_words() -> None:
    words = sa.func.to_tsvector(
        sa.text("'english'::regconfig"),
        sa.func.translate(sa.text("coalesce(spelled, text)"), _PUNCTUATION, " " * len(_PUNCTUATION)),
    )
    op.drop_column(_CHUNKS, "words")
    # Dropped with its index.
    op.add_column(_CHUNKS, sa.Column("words", postgresql.TSVECTOR, sa.Computed(words, persisted=True)))
    op.create_index(f"{_CHUNKS}_words", _CHUNKS, ["words"], postgresql_using="gin")
