"""Fills an empty database with synthetic or imported interactions, and announces the first, weightless model."""
