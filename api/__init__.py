"""The HTTP API: accepts requests into PostgreSQL and Kafka, answers from the results topic."""
