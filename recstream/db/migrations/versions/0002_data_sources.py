"""Where imported data came from."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "data_sources",
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("interactions", sa.BigInteger, nullable=False),
        sa.Column("imported_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("source", "name", name="pk_data_sources"),
        sa.CheckConstraint("source IN ('synthetic', 'movielens', 'csv')", name=op.f("ck_data_sources_source")),
        comment="What the seeder imported. Item ids of two sources may mean different things.",
    )


def downgrade() -> None:
    op.drop_table("data_sources")
