"""The unprivileged account that PostgreSQL runs under where the launcher itself runs as root, and what it can reach."""

import hashlib
import os
import pwd
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import LauncherError

CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """A user of this machine, with the group that its processes get."""

    name: str
    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """Return whom to run PostgreSQL as, or None where that is the user who started the launcher (not root).

    Raises:
        LauncherError: where the launcher runs as root and there is no such account.
    """
    if os.geteuid() != 0:
        return None
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise LauncherError(
        "PostgreSQL refuses to run as root, and this machine has neither an account 'postgres' nor 'nobody' to run it "
        "as. Start Recstream as an ordinary user, or add the account 'postgres'."
    )


def can_reach(account: Account, path: Path) -> bool:
    """Tell whether the account may enter a folder, or run a program with every shared library it needs.

    Asked of the system itself, by a process of that account, because modes do not show access lists and mounts.
    """
    command = ["/bin/sh", "-c", 'cd "$1"', "sh", str(path)] if path.is_dir() else [str(path), "--version"]
    try:
        run = subprocess.run(
            command, user=account.uid, group=account.gid, extra_groups=[], cwd="/", capture_output=True, timeout=30
        )
    except PermissionError:
        return False
    return run.returncode == 0


def folder_outside(owner: Path) -> Path:
    """Make and return a folder that every account can enter, for what belongs to `owner` but cannot lie in it.

    In /var/lib, by a name that follows from `owner`; where that is read-only, in /var/tmp by a random name.
    """
    name = hashlib.sha256(str(owner).encode()).hexdigest()[:12]
    try:
        folder = Path("/var/lib/recstream") / name
        folder.mkdir(parents=True, exist_ok=True)
        folder.parent.chmod(0o755)
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix=f"recstream-{name}-", dir="/var/tmp"))
    folder.chmod(0o755)
    return folder
