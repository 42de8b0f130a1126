"""Skills and their versions. Safe before deploy: only new tables and an index."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_SKILLED = sa.text("skills <> ''")
_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "skills",
        sa.Column("seq", _SEQ, sa.Identity(), primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("default_version", sa.Integer, nullable=False),
        # The highest number ever given out: that of a deleted version is not used again.
        sa.Column("last_version", sa.Integer, nullable=False),
    )
    op.create_index("skills_listed", "skills", ["project_id", "created_at", "seq"])
    op.create_table(
        "skill_versions",
        sa.Column("seq", _SEQ, sa.Identity(), primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("skill_id", sa.Text, sa.ForeignKey("skills.id", ondelete="CASCADE"), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("blob", sa.Text, nullable=False),
        sa.UniqueConstraint("skill_id", "version", name="skill_versions_number"),
    )
    op.create_index("skill_versions_blob", "skill_versions", ["blob"])
    op.create_index("containers_skilled", "containers", ["state"], sqlite_where=_SKILLED, postgresql_where=_SKILLED)
    op.create_table(
        "skill_blobs",
        sa.Column("blob", sa.Text, primary_key=True),
        sa.Column("kept_at", sa.BigInteger, nullable=False),
    )
