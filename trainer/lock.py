"""One training at a time on one database."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from recstream.db.advisory_locks import TRAINING
from trainer.refusal import TrainingRefused


class AlreadyTraining(TrainingRefused):
    """Another training holds the lock."""


@contextmanager
def only_training(connection: psycopg.Connection) -> Iterator[None]:
    """Hold the database's training lock until `connection` is closed.

    The lock is the connection's, so PostgreSQL lets go of it when the process dies. Raises AlreadyTraining.
    """
    # Outside a transaction: hours in one would keep PostgreSQL from cleaning up.
    connection.autocommit = True
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (TRAINING,)).fetchone()
    if row is None or not row[0]:
        raise AlreadyTraining("Another training runs on this database; wait until it has ended, then train again.")
    # Whoever closes the connection, or its breaking, lets go of the lock: unlocking could only fail on top.
    yield
