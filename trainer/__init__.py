"""Trains a model on the interactions in PostgreSQL, measures it, writes its bundle and announces it."""
