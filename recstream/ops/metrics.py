"""Every metric that Recstream exports, in one place. No label takes an unbounded value."""

from prometheus_client import Counter, Gauge, Histogram

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

# api
HTTP_REQUESTS = Counter("http_requests", "HTTP requests answered.", ["method", "route", "status"])
HTTP_REQUEST_DURATION = Histogram(
    "http_request_duration_seconds",
    "From the first byte of a request to the start of its answer.",
    ["method", "route"],
    buckets=_LATENCY,
)
STREAMS_OPEN = Gauge("http_streams_open", "Event streams that are open.")
OUTBOX_BACKLOG = Gauge("outbox_backlog_rows", "Accepted requests whose delivery to Kafka is not confirmed yet.")
OUTBOX_OLDEST = Gauge("outbox_oldest_seconds", "Age of the oldest row whose delivery is not confirmed; 0 without one.")
OUTBOX_LIMIT = Gauge("outbox_limit_rows", "Backlog at which new requests are refused.")
OUTBOX_RELAYED = Counter("outbox_relayed", "Outbox rows that the relay had to publish.")

WORKERS_ALIVE = Gauge("workers_alive", "Workers that have reported on system.status lately.")

# api: the queues as their groups see them, known also while nobody consumes
GROUP_LAG = Gauge("kafka_group_lag_records", "Records that the group has not committed.", ["group", "topic"])
GROUP_COMMITTED = Gauge(
    "kafka_group_committed_records", "Sum of the group's committed offsets; its rate is the speed.", ["group", "topic"]
)
TOPIC_END = Gauge("kafka_topic_end_records", "Sum of a topic's end offsets: records ever appended.", ["topic"])
DEAD_LETTER_DEPTH = Gauge("kafka_dead_letter_records", "Records that lie on a topic's dead-letter topic.", ["topic"])
QUEUES_OBSERVED = Gauge("kafka_queues_observed_timestamp_seconds", "When the four above were last read.")

# worker
PROCESSED = Counter("worker_processed", "Requests answered.", ["status", "source"])
ERRORS = Counter("worker_errors", "Requests that could not be answered, by kind of error.", ["type"])
SKIPPED = Counter("worker_skipped", "Requests that had been cancelled or had expired when a worker took them.")
INFERENCE_LATENCY = Histogram("worker_inference_latency_seconds", "One batch through the model.", buckets=_LATENCY)
QUEUE_DELAY = Histogram(
    "worker_queue_delay_seconds", "From a request's append to the topic to its batch's start.", buckets=_LATENCY
)
BATCH_SIZE = Histogram("worker_batch_size", "Requests in one batch.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256))
HISTORY_LENGTH = Histogram(
    "worker_history_length", "Known items in a request's history.", buckets=(0, 1, 2, 5, 10, 20, 50, 100, 200, 500)
)
PREDICTION_SCORE = Histogram(
    "worker_prediction_score",
    "The model's score of each first-ranked item; popularity's are of another kind and do not count.",
    buckets=(-10, -5, -2, -1, 0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 50),
)
FALLBACKS = Counter("worker_fallbacks", "Requests answered by popularity, by why.", ["reason"])
UNKNOWN_ITEMS = Counter("worker_unknown_items", "History items that the model's vocabulary does not hold.")
HISTORY_ITEMS = Counter("worker_history_items", "History items received.")
MODEL_INFO = Gauge("worker_model_info", "1 for the version that is served.", ["model_version"])
MODEL_TRAINED_TIMESTAMP = Gauge("worker_model_trained_timestamp_seconds", "When the served bundle was made.")
MODEL_QUALITY = Gauge("worker_model_quality", "What the trainer measured of the served version.", ["metric"])
MODEL_QUALITY_NAMES = frozenset({"ndcg@10", "recall@10", "mrr@10", "popularity_ndcg@10", "popularity_recall@10"})
"""Of all that an announcement may carry."""
MODEL_RELOADS = Counter("worker_model_reloads", "Announced models, by what became of them.", ["outcome"])

DRIFT_PSI = Gauge(
    "worker_drift_psi",
    "Population stability index of the latest answers against the model's training data.",
    ["feature"],
)
DRIFT_WINDOW = Gauge("worker_drift_window_requests", "Answers that worker_drift_psi is computed from.", ["feature"])

# every consumer
CONSUMED = Counter("kafka_consumed_records", "Records taken.", ["topic"])
CONSUMER_LAG = Gauge("kafka_consumer_lag_records", "Records not taken yet, of owned partitions.", ["topic"])
DEAD_LETTERS = Counter("kafka_dead_letters", "Records set aside.", ["topic", "reason"])
BREAKER_OPEN = Gauge("kafka_breaker_open", "1 while the consumer has stopped at a run of nothing but bad records.")
BAD_RECORDS = Counter("kafka_ignored_records", "Unusable records on compacted topics, logged and passed by.", ["topic"])

# db_writer
ROWS_WRITTEN = Counter("db_writer_rows", "Rows changed in PostgreSQL.", ["table"])
ENDED = Counter("requests_ended", "Requests whose row was ended, by status.", ["status"])
SWEPT = Counter("requests_swept", "Overdue requests that the sweep proposed to end as expired.")
END_TO_END_LATENCY = Histogram(
    "recommendation_end_to_end_seconds",
    "From accepting a request to its answer on the topic, of completed requests.",
    buckets=_LATENCY,
)
INTERACTIONS = Counter("db_writer_interactions", "Interactions stored, repetitions not counted.", ["event_type"])
DATABASE_RETRIES = Counter("db_writer_database_retries", "Attempts that found PostgreSQL away.")
WRITE_LATENCY = Histogram("db_writer_write_seconds", "One batch to its commit.", buckets=_LATENCY)
