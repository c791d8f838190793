"""The tables, as SQLAlchemy Core. Migrations make them; a test checks that the two agree."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    Table,
    Text,
    Uuid,
    func,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

installation = Table(
    "installation",
    metadata,
    Column("only_row", Boolean, CheckConstraint("only_row", name="only_row"), primary_key=True, server_default="true"),
    Column("epoch", Uuid, nullable=False),
    comment="One row, made with the database; its epoch, a UUIDv7, outranks those of older databases.",
)

users = Table(
    "users",
    metadata,
    # Compared byte by byte: a prefix search and a cursor can then use the key's own index.
    Column("user_id", Text(collation="C"), primary_key=True),
    Column("first_seen_at", DateTime(timezone=True), nullable=False),
    Column("last_seen_at", DateTime(timezone=True), nullable=False),
)

items = Table(
    "items",
    metadata,
    Column("item_id", Text(collation="C"), primary_key=True),
    Column("title", Text, nullable=False),
    Column("genres", ARRAY(Text), nullable=False, server_default="{}"),
    Column("attributes", JSONB, nullable=False, server_default="{}"),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index(
        "ix_items_title_trgm",
        func.lower(literal_column("title")).label("title_lower"),
        postgresql_using="gin",
        postgresql_ops={"title_lower": "gin_trgm_ops"},
    ),
)

interactions = Table(
    "interactions",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("event_id", Uuid, nullable=False, unique=True),
    Column("user_id", Text(collation="C"), nullable=False),
    Column("item_id", Text(collation="C"), nullable=False),
    Column("event_type", Text, nullable=False),
    Column("weight", Double, nullable=False, server_default="1"),
    Column("created_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("event_type IN ('view', 'like', 'purchase', 'rating', 'dismiss')", name="event_type"),
    # A user's latest interactions, in one index range. The id breaks ties in the order of arrival: for imported
    # sets that is the file's order, which sorting by item id would not keep.
    Index("ix_interactions_user_id_created_at_id", "user_id", "created_at", "id"),
    comment="What people did. created_at is when it happened, as the event says.",
)

predictions = Table(
    "predictions",
    metadata,
    Column("request_id", Uuid, primary_key=True),
    Column("tenant", Text, nullable=False, server_default="default"),
    Column("user_id", Text),
    Column("status", Text, nullable=False),
    Column("request_json", JSONB, nullable=False),
    Column("result_json", JSONB),
    Column("model_version", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("completed_at", DateTime(timezone=True)),
    Column("error_type", Text),
    # By this database's clock alone; the api writes the deadline, or its own maximum where none was given.
    Column("expires_at", DateTime(timezone=True), nullable=False, server_default=text("now() + interval '6 hours'")),
    CheckConstraint("status IN ('PENDING', 'COMPLETED', 'FAILED', 'EXPIRED', 'CANCELLED')", name="status"),
    # What is still open, in the order in which it expires: small however large the table grows.
    Index("ix_predictions_pending", "expires_at", "request_id", postgresql_where=text("status = 'PENDING'")),
    postgresql_partition_by="RANGE (request_id)",
    comment="One row a request. The UUIDv7 key is ordered by time, so its ranges are the months.",
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("topic", Text, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("headers", JSONB, nullable=False, server_default="{}"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("leased_until", DateTime(timezone=True)),
    comment="Records accepted but not yet confirmed by Kafka; deleted on the delivery report.",
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("body_hash", LargeBinary, nullable=False),
    Column("request_id", Uuid, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Index("ix_idempotency_keys_expires_at", "expires_at"),
)

redrives = Table(
    "redrives",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("letter_partition", Integer, primary_key=True, autoincrement=False),
    Column("letter_offset", BigInteger, primary_key=True),
    Column("set_aside_at", DateTime(timezone=True), primary_key=True),
    Column("redriven_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("service", Text, nullable=False),
    Index("ix_redrives_redriven_at", "redriven_at"),
    comment="Dead letters that were sent to their topic once more, and by whom.",
)

model_generation = Sequence("model_generation", metadata=metadata)

ml_models = Table(
    "ml_models",
    metadata,
    Column("version", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("generation", BigInteger),
    Column("folder", Text, nullable=False),
    Column("manifest_sha256", Text, nullable=False),
    Column("metrics", JSONB, nullable=False, server_default="{}"),
    Column("status", Text, nullable=False),
    Column("decision", JSONB),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("promoted_at", DateTime(timezone=True)),
    CheckConstraint("status IN ('candidate', 'live', 'retired', 'refused', 'pruned')", name="status"),
    # At most one live model, whoever writes.
    Index("uq_ml_models_live", "status", unique=True, postgresql_where=text("status = 'live'")),
    comment="Every bundle made, and which one is live. generation is that of its latest announcement.",
)

data_sources = Table(
    "data_sources",
    metadata,
    Column("source", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("interactions", BigInteger, nullable=False),
    Column("imported_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("source IN ('synthetic', 'movielens', 'csv')", name="source"),
    comment="What the seeder imported. Item ids of two sources may mean different things.",
)
