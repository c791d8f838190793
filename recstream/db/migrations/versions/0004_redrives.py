"""Dead letters that were sent once more."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "redrives",
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("letter_partition", sa.Integer, nullable=False),
        sa.Column("letter_offset", sa.BigInteger, nullable=False),
        sa.Column("set_aside_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("redriven_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("service", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("topic", "letter_partition", "letter_offset", "set_aside_at", name="pk_redrives"),
        comment="Dead letters that were sent to their topic once more, and by whom.",
    )
    op.create_index("ix_redrives_redriven_at", "redrives", ["redriven_at"])


def downgrade() -> None:
    op.drop_table("redrives")
