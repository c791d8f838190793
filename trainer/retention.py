"""Which bundles stay on disk."""

import shutil
import time
from pathlib import Path

import psycopg

from recstream.model.manifest import FOLDER_NAME

_ORPHAN_SECONDS = 3_600
"""A whole bundle that no row names may be about to be announced, by the seeder for instance; not for so long."""


def prune_bundles(connection: psycopg.Connection, checkpoints: Path, keep: int | None) -> list[str]:
    """Remove all but the newest `keep` bundles, and whole ones that a killed writer never announced.

    The live model and the one that was live before it, which workers fall back to, always stay; with `keep` None every
    announced one does. A removed bundle's row stays, with the status `pruned`. Returns what was removed. An unfinished
    training's folder has another name and is never among them. `connection` must have no transaction open.
    """
    removed = []
    if keep is not None:
        # The row first: a promotion that comes in between finds no bundle gone that it may still announce.
        with connection.transaction():
            rows = connection.execute(
                """
                WITH protected AS (
                    SELECT version FROM ml_models WHERE generation IS NOT NULL ORDER BY generation DESC LIMIT 2
                ), newest AS (
                    SELECT version FROM ml_models WHERE status <> 'pruned' ORDER BY created_at DESC LIMIT %s
                )
                UPDATE ml_models SET status = 'pruned'
                WHERE status NOT IN ('live', 'pruned')
                  AND version NOT IN (SELECT version FROM protected)
                  AND version NOT IN (SELECT version FROM newest)
                RETURNING folder
                """,
                (keep,),
            ).fetchall()
        removed = [folder for (folder,) in rows]
    with connection.transaction():
        wanted = connection.execute("SELECT folder FROM ml_models WHERE status <> 'pruned'").fetchall()
    recorded = {folder for (folder,) in wanted}
    removed += [folder for folder in _whole_folders(checkpoints) if folder not in recorded and folder not in removed]
    for folder in removed:
        shutil.rmtree(checkpoints / folder, ignore_errors=True)
    return removed


def _whole_folders(checkpoints: Path) -> list[str]:
    """Return the bundles that have been there for long."""
    oldest = time.time() - _ORPHAN_SECONDS
    return [
        path.name
        for path in checkpoints.iterdir()
        if FOLDER_NAME.fullmatch(path.name) and path.is_dir() and path.stat().st_mtime < oldest
    ]
