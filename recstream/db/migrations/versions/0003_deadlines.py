"""When a request's time is over, for the sweep that ends what nothing answered."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Requests that are there already get the default from now on.
    op.add_column(
        "predictions",
        sa.Column(
            "expires_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("now() + interval '6 hours'"),
        ),
    )
    op.drop_index("ix_predictions_pending", "predictions")
    op.create_index(
        "ix_predictions_pending",
        "predictions",
        ["expires_at", "request_id"],
        postgresql_where=sa.text("status = 'PENDING'"),
    )


def downgrade() -> None:
    op.drop_index("ix_predictions_pending", "predictions")
    op.drop_column("predictions", "expires_at")
    op.create_index(
        "ix_predictions_pending", "predictions", ["request_id"], postgresql_where=sa.text("status = 'PENDING'")
    )
