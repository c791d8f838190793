"""Runs all of Recstream on one machine without Docker: Apache Kafka, PostgreSQL and every service as processes."""
