"""The numbers of PostgreSQL's advisory locks: all services share one space of them, so they stand in one place."""

from typing import Final

MIGRATION: Final = 7_301_905_518
"""Replicas that start together migrate in turns."""
ANNOUNCEMENT: Final = 7_301_905_519
"""Generations reach the topic in order."""
TRAINING: Final = 7_301_905_520
"""One training at a time."""
SEEDING: Final = 7_301_905_521
"""Seeders take turns."""
REDRIVE: Final = 7_301_905_523
"""One dead letter is sent once more at a time, so that counting them and adding one are one step."""
MARTS: Final = 7_301_905_524
"""One dbt at a time; dbt/schedule.py, which runs without this package, holds the same number."""
EXPIRY: Final = 7_301_905_522
"""One db_writer sweeps, and another takes over when its connection ends."""
