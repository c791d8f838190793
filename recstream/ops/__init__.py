"""The lowest layer: settings, logs, metrics, ports, health and shutdown. Imports nothing else of this project."""
