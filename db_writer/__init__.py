"""The database writer: results and activity from Kafka to PostgreSQL, batched and idempotent."""
