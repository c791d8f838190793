"""PostgreSQL: settings, connections, tables and their migrations."""
