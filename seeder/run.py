"""A whole run: import, tell, publish."""

from pathlib import Path

import psycopg
from rich.console import Console
from rich.table import Table

from recstream.kafka.settings import KafkaSettings
from recstream.ops.interruption import Interruption
from seeder.loading import Mode, Outcome, holds_interactions, load, take_turn
from seeder.progress import say
from seeder.publishing import live_kind, publish_popularity
from seeder.sources import Source


def seed(
    connection: psycopg.Connection,
    kafka: KafkaSettings,
    checkpoints: Path,
    source: Source,
    mode: Mode,
    *,
    only_if_empty: bool,
    console: Console,
    interruption: Interruption,
) -> None:
    """Import `source` and publish what is popular, where that is called for.

    It is called for where no model is live; after new interactions while no trained model is; and after a replacement,
    because a model of the items before would recommend other items under the same ids.
    """
    outcome = None
    take_turn(connection, console)
    if only_if_empty and holds_interactions(connection):
        say(console, "The database holds interactions already; nothing was added.")
    else:
        say(console, f"Importing {source.catalogue}.")
        outcome = load(connection, source, mode, console, interruption)
        tell(console, outcome)
    _publish(connection, kafka, checkpoints, console, outcome, replaced=mode is Mode.REPLACE)


def _publish(
    connection: psycopg.Connection,
    kafka: KafkaSettings,
    checkpoints: Path,
    console: Console,
    outcome: Outcome | None,
    *,
    replaced: bool,
) -> None:
    kind = live_kind(connection)
    added = outcome is not None and outcome.new > 0
    if kind is None or replaced or (added and kind == "popularity"):
        version = publish_popularity(connection, kafka, checkpoints)
        if version is not None:
            say(console, f"Announced {version}: what is popular, until ./run train has made a model.")
    elif added:
        say(console, "The trained model stays in service; ./run train makes one that knows the new interactions.")


def tell(console: Console, outcome: Outcome) -> None:
    """Print what an import did."""
    if outcome.removed:
        say(console, f"Removed {outcome.removed:,} earlier interactions.")
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    rows = {
        "interactions read": outcome.read + outcome.rejected,
        "new": outcome.new,
        "there already": outcome.read - outcome.new,
        "rejected": outcome.rejected,
        "users": outcome.users,
        "items with a title": outcome.items,
    }
    for name, number in rows.items():
        table.add_row(name, f"{number:,}")
    table.add_row("seconds", f"{outcome.seconds:.1f}")
    table.add_row("rows a second", f"{outcome.read / max(outcome.seconds, 1e-9):,.0f}")
    console.print(table)
    for rejects in outcome.rejects:
        if rejects.count:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in rejects.reasons.most_common(5))
            say(console, f"Warning: {rejects.count:,} lines were not imported ({reasons}); they are in {rejects.path}.")
