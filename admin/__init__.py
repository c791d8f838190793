"""Operator commands that run anywhere, containers included."""
