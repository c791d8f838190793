"""Every default port in one place, as users of such stacks expect them."""

API = 8000
UI = 8501
KAFKA = 9092
KAFKA_CONTROLLER = 9093
POSTGRES = 5432
PROMETHEUS = 9090
DB_WRITER_METRICS = 9101
WORKER_METRICS = 9111
"""Of the first worker; the launcher gives the n-th worker the n-th port from here."""
MARTS = 9071
"""Health and metrics of what runs dbt."""
