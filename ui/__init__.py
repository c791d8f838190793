"""The page: recommendations for a chosen user, live from Kafka, and what passes through the pipeline."""
