"""Failures that a person is told about in a sentence, with the remedy, instead of a stack trace."""

from pathlib import Path


class LauncherError(Exception):
    """An expected failure. Its text is one or two sentences that say what happened and what to do.

    Args:
        message: what happened, and the remedy.
        log: the log file whose last lines explain it, where there is one.
    """

    def __init__(self, message: str, log: Path | None = None) -> None:
        super().__init__(message)
        self.log = log


class Interrupted(LauncherError):
    """Stopping was asked for while something was waited for."""

    def __init__(self) -> None:
        super().__init__("Interrupted.")


class AlreadyRunning(LauncherError):
    """Another launcher runs the stack of this state folder."""


def tail(path: Path, lines: int = 20) -> list[str]:
    """Return the last `lines` lines of a file, read from its end; an empty list where there is no such file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - lines * 400))
            return file.read().decode("utf-8", errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []
