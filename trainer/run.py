"""One training from PostgreSQL to the decision about going live."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import psycopg
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_exponential

from recstream.db.engine import connect
from recstream.db.settings import PostgresSettings
from recstream.kafka.announcements import ModelRecord, announce_model, record_refused
from recstream.kafka.settings import KafkaSettings
from recstream.messages.control import AnnouncementReason
from recstream.model.bundle import Bundle, open_bundle, write_bundle
from recstream.model.manifest import BundleRejected
from recstream.model.settings import CheckpointSettings
from recstream.ops.clock import from_us, to_us, utc_now
from recstream.ops.interruption import Interrupted
from trainer.interactions import Interactions, read_interactions
from trainer.lock import only_training
from trainer.refusal import TrainingRefused
from trainer.reporting import Reporter
from trainer.retention import prune_bundles
from trainer.settings import TrainerSettings
from trainer.split import moment_before_latest
from trainer.unfinished import UnfinishedRun

_SERVICE = "trainer"


class TooLittleData(TrainingRefused):
    """There is nothing to learn or to measure with."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The bundle that was made, and whether it went live."""

    version: str
    promoted: bool


def train_and_announce(
    settings: TrainerSettings,
    postgres: PostgresSettings,
    kafka: KafkaSettings,
    checkpoints: CheckpointSettings,
    reporter: Reporter,
) -> Outcome:
    """Train, measure, write the bundle, and announce it unless the gate refuses it.

    Until the bundle's rename nothing is left behind but what the next training goes on from and, at worst, a temporary
    folder that the next writer removes; until the announcement's commit no worker knows of it.

    Raises:
        TrainingRefused: another training runs, data or settings do not do, the loss left the finite numbers, or the
            bundle could not be written.
        psycopg.Error: PostgreSQL refused or went away.
        Interrupted: a signal; its sentence says what stands.
    """
    started = time.monotonic()
    with connect(postgres, _SERVICE) as lock_connection, only_training(lock_connection):
        unfinished = UnfinishedRun(checkpoints.dir, settings.that_decide_the_network())
        live = _live_model(postgres)
        live_bundle = _open_live(checkpoints, live, reporter)
        attempt = unfinished.load() if settings.resume else None
        if attempt is not None:
            data, cut, progress = attempt.data, attempt.cut, attempt.progress
            reporter.say("A training was interrupted; going on with it. --no-resume begins anew.")
        else:
            with connect(postgres, _SERVICE) as connection, reporter.bar("Reading interactions"):
                data = read_interactions(
                    connection, min_item_count=settings.min_item_count, on_progress=reporter.rows_read
                )
            _check_size(data, settings.min_users)
            cut, progress = _cut(data, settings, live_bundle), None
        reporter.say(
            f"Read {len(data.codes):,} interactions of {data.n_users:,} users with {data.n_items:,} items"
            f"{_period(data)} in {time.monotonic() - started:.1f} s."
        )
        learnt = data if cut is None else data.until(cut)
        if cut is not None:
            reporter.say(
                f"The latest {len(data.codes) - len(learnt.codes):,} are not learnt from: what came after "
                f"{from_us(cut):%Y-%m-%d %H:%M} UTC decides about going live."
            )
        # Here, because importing torch takes seconds, and a run that is refused should not.
        from trainer.fit import fit
        from trainer.gate import decide
        from trainer.progress import ProgressUnusable
        from trainer.report import write_report

        try:
            fitted = fit(learnt, settings, reporter, progress, lambda state: unfinished.save(data, cut, state))
        except ProgressUnusable as error:
            unfinished.remove()
            raise TrainingRefused(f"{error}. It was removed; train again.") from error
        except OSError as error:
            raise TrainingRefused(f"Progress could not be saved to {checkpoints.dir}: {error.strerror}.") from error
        reporter.table(fitted.model, fitted.popularity)
        try:
            reference = write_bundle(
                checkpoints.dir,
                kind="sasrec",
                created_at=utc_now(),
                data=learnt.window,
                parent=live.version if live is not None else None,
                files=fitted.files,
            )
        except OSError as error:
            raise TrainingRefused(f"The bundle could not be written to {checkpoints.dir}: {error.strerror}.") from error
        try:
            # From the disk, as a worker will load it.
            candidate = open_bundle(checkpoints.dir, reference.folder, reference.manifest_sha256)
            try:
                decision = decide(candidate, live_bundle, data, cut, settings)
            except BundleRejected as error:
                raise TrainingRefused(f"No worker could load the new bundle: {error}") from error
            reporter.decision(decision)
            record = ModelRecord(
                version=reference.version,
                kind=reference.kind,
                folder=reference.folder,
                manifest_sha256=reference.manifest_sha256,
                created_at=reference.created_at,
                metrics=fitted.recorded_metrics(time.monotonic() - started),
            )
            recorded = msgspec.to_builtins(decision)
            if decision.promoted:
                _announce(postgres, kafka, record, recorded)
                reporter.say(f"Announced {reference.version} after {time.monotonic() - started:.1f} s.")
            else:
                _refuse(postgres, record, recorded)
                reporter.say(f"Refused {reference.version}: {decision.reason}. The model that is live stays.")
        except Interrupted as interruption:
            interruption.sentence = (
                f"Interrupted while announcing {reference.version}: its bundle is whole; whether it is live, "
                "GET /v1/models says."
            )
            raise
        # What is left is not worth failing for: the model is decided on.
        try:
            reporter.say(f"Report: {write_report(checkpoints.dir, reference, learnt, fitted, decision)}")
            unfinished.remove()
            removed = _prune(postgres, checkpoints, settings.keep_bundles)
        except (OSError, psycopg.Error) as error:
            reporter.say(f"Report or tidying failed: {' '.join(str(error).split())}")
        else:
            if removed:
                reporter.say(f"Removed old bundles: {', '.join(removed)}.")
    return Outcome(reference.version, decision.promoted)


def _cut(data: Interactions, settings: TrainerSettings, live: Bundle | None) -> int | None:
    """Return the moment after which nothing is learnt from; None where nothing would be left to decide with.

    Not before the end of what the live model has learnt from: it is compared on what is later.
    """
    if not settings.holdout_share or data.times is None:
        return None
    cut = moment_before_latest(data.times, settings.holdout_share)
    if live is not None and live.manifest.data.last_at is not None:
        cut = max(cut, to_us(live.manifest.data.last_at))
    if cut >= data.times.max():
        return None
    try:
        _check_size(data.until(cut), settings.min_users)
    except TooLittleData:
        return None  # to have a model at all comes first
    return cut


def _open_live(checkpoints: CheckpointSettings, live: "_Live | None", reporter: Reporter) -> Bundle | None:
    """Return the live SASRec model's bundle, to compare with; popularity is compared with anyway."""
    if live is None or live.kind != "sasrec":
        return None
    try:
        return open_bundle(checkpoints.dir, live.folder, live.manifest_sha256)
    except BundleRejected as error:
        reporter.say(f"The live model cannot be compared with: {error}")
        return None


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


@dataclass(frozen=True, slots=True)
class _Live:
    version: str
    kind: str
    folder: str
    manifest_sha256: str


@_patiently
def _live_model(postgres: PostgresSettings) -> _Live | None:
    with connect(postgres, _SERVICE) as connection:
        row = connection.execute(
            "SELECT version, kind, folder, manifest_sha256 FROM ml_models WHERE status = 'live'"
        ).fetchone()
    return None if row is None else _Live(*row)


@_patiently
def _announce(
    postgres: PostgresSettings, kafka: KafkaSettings, record: ModelRecord, decision: Mapping[str, Any]
) -> None:
    with connect(postgres, _SERVICE) as connection:
        announce_model(
            connection, kafka, record, reason=AnnouncementReason.TRAINED, service=_SERVICE, decision=decision
        )


@_patiently
def _refuse(postgres: PostgresSettings, record: ModelRecord, decision: Mapping[str, Any]) -> None:
    with connect(postgres, _SERVICE) as connection:
        record_refused(connection, record, decision)


@_patiently
def _prune(postgres: PostgresSettings, checkpoints: CheckpointSettings, keep: int | None) -> list[str]:
    with connect(postgres, _SERVICE) as connection:
        return prune_bundles(connection, checkpoints.dir, keep)


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
