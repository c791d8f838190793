"""One training from PostgreSQL to the announcement."""

import time

import psycopg
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_exponential

from recstream.db.engine import connect
from recstream.db.settings import PostgresSettings
from recstream.kafka.announcements import ModelRecord, announce_model
from recstream.kafka.settings import KafkaSettings
from recstream.messages.control import AnnouncementReason
from recstream.model.bundle import write_bundle
from recstream.model.settings import CheckpointSettings
from recstream.ops.clock import utc_now
from recstream.ops.interruption import Interrupted
from trainer.interactions import Interactions, read_interactions
from trainer.lock import only_training
from trainer.refusal import TrainingRefused
from trainer.reporting import Reporter
from trainer.settings import TrainerSettings

_SERVICE = "trainer"


class TooLittleData(TrainingRefused):
    """There is nothing to learn or to measure with."""


def train_and_announce(
    settings: TrainerSettings,
    postgres: PostgresSettings,
    kafka: KafkaSettings,
    checkpoints: CheckpointSettings,
    reporter: Reporter,
) -> str:
    """Train, measure, write the bundle and announce it; return its version.

    Until the bundle's rename nothing is left behind but, at worst, a temporary folder that the next writer removes;
    until the announcement's commit no worker knows of it.

    Raises:
        TrainingRefused: another training runs, data or settings do not do, the loss left the finite numbers, or the
            bundle could not be written.
        psycopg.Error: PostgreSQL refused or went away.
        Interrupted: a signal; its sentence says what stands.
    """
    started = time.monotonic()
    with connect(postgres, _SERVICE) as lock_connection, only_training(lock_connection):
        with connect(postgres, _SERVICE) as connection, reporter.bar("Reading interactions"):
            data = read_interactions(connection, min_item_count=settings.min_item_count, on_progress=reporter.rows_read)
        _check_size(data, settings.min_users)
        reporter.say(
            f"Read {len(data.codes):,} interactions of {data.n_users:,} users with {data.n_items:,} items"
            f"{_period(data)} in {time.monotonic() - started:.1f} s."
        )
        # Here, because importing torch takes seconds, and a run that is refused should not.
        from trainer.fit import fit

        fitted = fit(data, settings, reporter)
        reporter.table(fitted.model, fitted.popularity)
        parent = _live_version(postgres)
        try:
            reference = write_bundle(
                checkpoints.dir,
                kind="sasrec",
                created_at=utc_now(),
                data=data.window,
                parent=parent,
                files=fitted.files,
            )
        except OSError as error:
            raise TrainingRefused(f"The bundle could not be written to {checkpoints.dir}: {error.strerror}.") from error
        seconds = time.monotonic() - started
        record = ModelRecord(
            version=reference.version,
            kind=reference.kind,
            folder=reference.folder,
            manifest_sha256=reference.manifest_sha256,
            created_at=reference.created_at,
            metrics=fitted.recorded_metrics(seconds),
        )
        try:
            _announce(postgres, kafka, record)
            reporter.say(f"Announced {reference.version} after {time.monotonic() - started:.1f} s.")
        except Interrupted as interruption:
            interruption.sentence = (
                f"Interrupted while announcing {reference.version}: its bundle is whole; whether it is live, "
                "GET /v1/models says."
            )
            raise
    return reference.version


# A long training is not to be lost to a database that restarts.
_patiently = retry(
    retry=retry_if_exception_type(psycopg.OperationalError),
    stop=stop_after_delay(60),
    wait=wait_exponential(max=10),
    reraise=True,
)


@_patiently
def trained_version(postgres: PostgresSettings) -> str | None:
    """Return the newest model that was trained on this database, or None."""
    with connect(postgres, _SERVICE) as connection:
        row = connection.execute(
            "SELECT version FROM ml_models WHERE kind = 'sasrec' ORDER BY created_at DESC LIMIT 1"
        ).fetchone()
    return None if row is None else row[0]


@_patiently
def _live_version(postgres: PostgresSettings) -> str | None:
    with connect(postgres, _SERVICE) as connection:
        row = connection.execute("SELECT version FROM ml_models WHERE status = 'live'").fetchone()
    return None if row is None else row[0]


@_patiently
def _announce(postgres: PostgresSettings, kafka: KafkaSettings, record: ModelRecord) -> None:
    with connect(postgres, _SERVICE) as connection:
        announce_model(connection, kafka, record, reason=AnnouncementReason.TRAINED, service=_SERVICE)


def _check_size(data: Interactions, min_users: int) -> None:
    lengths = data.offsets[1:] - data.offsets[:-1]
    usable = int((lengths >= 3).sum())
    if usable < min_users or data.n_items < 2:
        raise TooLittleData(
            f"Too little to train on: {usable:,} of {data.n_users:,} users have three interactions or more, "
            f"with {data.n_items:,} items; at least {min_users:,} users and 2 items are needed. "
            "`./run seed` brings example data."
        )


def _period(data: Interactions) -> str:
    window = data.window
    if window.first_at is None or window.last_at is None:
        return ""
    return f" ({window.first_at:%Y-%m-%d} to {window.last_at:%Y-%m-%d})"
