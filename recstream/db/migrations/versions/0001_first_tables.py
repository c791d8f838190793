"""The first tables."""

import uuid

import sqlalchemy as sa
import uuid_utils
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    installation = op.create_table(
        "installation",
        sa.Column("only_row", sa.Boolean, nullable=False, server_default="true"),
        sa.Column("epoch", sa.Uuid, nullable=False),
        sa.CheckConstraint("only_row", name=op.f("ck_installation_only_row")),
        sa.PrimaryKeyConstraint("only_row", name="pk_installation"),
        comment="One row, made with the database; its epoch, a UUIDv7, outranks those of older databases.",
    )
    op.execute(sa.insert(installation).values(only_row=True, epoch=uuid.UUID(int=uuid_utils.uuid7().int)))
    op.create_table(
        "users",
        sa.Column("user_id", sa.Text(collation="C"), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_users"),
    )
    op.create_table(
        "items",
        sa.Column("item_id", sa.Text(collation="C"), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("genres", sa.ARRAY(sa.Text), nullable=False, server_default="{}"),
        sa.Column("attributes", JSONB, nullable=False, server_default="{}"),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("item_id", name="pk_items"),
    )
    op.create_index("ix_items_title_trgm", "items", [sa.text("lower(title) gin_trgm_ops")], postgresql_using="gin")
    op.create_table(
        "interactions",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("event_id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Text(collation="C"), nullable=False),
        sa.Column("item_id", sa.Text(collation="C"), nullable=False),
        sa.Column("event_type", sa.Text, nullable=False),
        sa.Column("weight", sa.Double, nullable=False, server_default="1"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "event_type IN ('view', 'like', 'purchase', 'rating', 'dismiss')", name=op.f("ck_interactions_event_type")
        ),
        sa.PrimaryKeyConstraint("id", name="pk_interactions"),
        sa.UniqueConstraint("event_id", name="uq_interactions_event_id"),
        comment="What people did. created_at is when it happened, as the event says.",
    )
    op.create_index("ix_interactions_user_id_created_at_id", "interactions", ["user_id", "created_at", "id"])
    op.create_table(
        "predictions",
        sa.Column("request_id", sa.Uuid, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False, server_default="default"),
        sa.Column("user_id", sa.Text),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("request_json", JSONB, nullable=False),
        sa.Column("result_json", JSONB),
        sa.Column("model_version", sa.Text),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True)),
        sa.Column("error_type", sa.Text),
        sa.CheckConstraint(
            "status IN ('PENDING', 'COMPLETED', 'FAILED', 'EXPIRED', 'CANCELLED')", name=op.f("ck_predictions_status")
        ),
        sa.PrimaryKeyConstraint("request_id", name="pk_predictions"),
        postgresql_partition_by="RANGE (request_id)",
        comment="One row a request. The UUIDv7 key is ordered by time, so its ranges are the months.",
    )
    op.create_index(
        "ix_predictions_pending", "predictions", ["request_id"], postgresql_where=sa.text("status = 'PENDING'")
    )
    # The months are made by recstream.db.partitions; what falls outside them has a place all the same.
    op.execute("CREATE TABLE predictions_default PARTITION OF predictions DEFAULT")
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("headers", JSONB, nullable=False, server_default="{}"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("leased_until", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        comment="Records accepted but not yet confirmed by Kafka; deleted on the delivery report.",
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("body_hash", sa.LargeBinary, nullable=False),
        sa.Column("request_id", sa.Uuid, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_expires_at", "idempotency_keys", ["expires_at"])
    op.execute("CREATE SEQUENCE model_generation")
    op.create_table(
        "ml_models",
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("generation", sa.BigInteger),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("manifest_sha256", sa.Text, nullable=False),
        sa.Column("metrics", JSONB, nullable=False, server_default="{}"),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("decision", JSONB),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("promoted_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("status IN ('candidate', 'live', 'retired', 'refused')", name=op.f("ck_ml_models_status")),
        sa.PrimaryKeyConstraint("version", name="pk_ml_models"),
        comment="Every bundle made, and which one is live. generation is that of its latest announcement.",
    )
    op.create_index(
        "uq_ml_models_live", "ml_models", ["status"], unique=True, postgresql_where=sa.text("status = 'live'")
    )


def downgrade() -> None:
    for table in ("ml_models", "idempotency_keys", "outbox", "predictions", "interactions", "items", "users"):
        op.drop_table(table)
    op.execute("DROP SEQUENCE model_generation")
    op.drop_table("installation")
