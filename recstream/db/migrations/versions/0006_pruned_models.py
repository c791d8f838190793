"""A status for models whose files were removed to make room."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_constraint(op.f("ck_ml_models_status"), "ml_models")
    op.create_check_constraint(
        op.f("ck_ml_models_status"), "ml_models", "status IN ('candidate', 'live', 'retired', 'refused', 'pruned')"
    )


def downgrade() -> None:
    op.execute("UPDATE ml_models SET status = 'retired' WHERE status = 'pruned'")
    op.drop_constraint(op.f("ck_ml_models_status"), "ml_models")
    op.create_check_constraint(
        op.f("ck_ml_models_status"), "ml_models", "status IN ('candidate', 'live', 'retired', 'refused')"
    )
