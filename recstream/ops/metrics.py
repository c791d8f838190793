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
END_TO_END_LATENCY = Histogram(
    "recommendation_end_to_end_seconds",
    "From accepting a request to seeing its result on the topic.",
    buckets=_LATENCY,
)
STREAMS_OPEN = Gauge("http_streams_open", "Event streams that are open.")
OUTBOX_BACKLOG = Gauge("outbox_backlog_rows", "Accepted requests whose delivery to Kafka is not confirmed yet.")
OUTBOX_RELAYED = Counter("outbox_relayed", "Outbox rows that the relay had to publish.")

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
    "worker_prediction_score", "Score of each first-ranked item.", buckets=(-10, -5, -2, -1, 0, 1, 2, 5, 10, 20, 50)
)
UNKNOWN_ITEMS = Counter("worker_unknown_items", "History items that the model's vocabulary does not hold.")
HISTORY_ITEMS = Counter("worker_history_items", "History items received.")
MODEL_INFO = Gauge("worker_model_info", "1 for the version that is served.", ["model_version"])
MODEL_TRAINED_TIMESTAMP = Gauge("worker_model_trained_timestamp_seconds", "When the served bundle was made.")
MODEL_RELOADS = Counter("worker_model_reloads", "Announced models, by what became of them.", ["outcome"])

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
WRITE_LATENCY = Histogram("db_writer_write_seconds", "One batch to its commit.", buckets=_LATENCY)
