"""Where everything of one stack lies: its state folder and its checkpoints."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Layout:
    """The folders and files of one stack. Nothing is made until something is written there.

    Attributes:
        home: the state folder: data, logs, passwords, state. RECSTREAM_HOME names it; else `.local` in the checkout.
        checkpoints: the model bundles. `checkpoints` in the checkout; a state folder of its own has its own, unless
            CHECKPOINTS_DIR names one.
    """

    home: Path
    checkpoints: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Layout":
        """Return the layout that the environment chooses."""
        home = environ.get("RECSTREAM_HOME")
        default_checkpoints = Path(home) / "checkpoints" if home else CHECKOUT / "checkpoints"
        return cls(
            home=Path(home or CHECKOUT / ".local").absolute(),
            checkpoints=Path(environ.get("CHECKPOINTS_DIR") or default_checkpoints).absolute(),
        )

    @property
    def data(self) -> Path:
        """What Kafka and PostgreSQL store."""
        return self.home / "data"

    @property
    def logs(self) -> Path:
        """One log file per service."""
        return self.home / "logs"

    @property
    def secrets(self) -> Path:
        """Generated passwords, readable by this user alone."""
        return self.home / "secrets"

    @property
    def cache(self) -> Path:
        """What can be made or fetched again: Java's start-up archive; jars, where the user has no Maven repository."""
        return self.home / "cache"

    @property
    def runtime(self) -> Path:
        """Locks of workers that were started by hand; Prometheus' configuration."""
        return self.home / "run"

    @property
    def state_file(self) -> Path:
        """What runs, for `status`, `down` and the next start."""
        return self.home / "state.json"

    @property
    def lock_file(self) -> Path:
        """Held by the launcher that runs this stack."""
        return self.home / "launcher.lock"

    def log(self, service: str) -> Path:
        """Return the log file of a service."""
        return self.logs / f"{service}.log"
