"""Programs that some tests need and pip has not: from the system's package manager, where that is possible."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_LOCK_TIMEOUT_S = 300
_INSTALL = (
    "apt-get", "-o", f"DPkg::Lock::Timeout={_LOCK_TIMEOUT_S}", "install", "--yes", "--no-install-recommends",
)  # fmt: skip


@dataclass(frozen=True)
class SystemPackage:
    """A package by the name that Debian and Ubuntu give it.

    Attributes:
        name: what apt-get calls it.
        programs: what it brings; any one on the path means that there is no need of it.
        needed_for: which tests are skipped without it.
        starts_service: whether its installation starts a server of its own where systemd runs.
    """

    name: str
    programs: tuple[str, ...]
    needed_for: str
    starts_service: bool = False

    def is_installed(self) -> bool:
        """Tell whether one of its programs is on the path."""
        return any(shutil.which(program) for program in self.programs)


FOR_TESTS = (
    SystemPackage("prometheus", ("promtool",), "the tests of alerts and dashboards", starts_service=True),
    SystemPackage("chromium", ("chromium", "chromium-browser", "google-chrome"), "the tests of the page in a browser"),
)


def install_missing(packages: tuple[SystemPackage, ...]) -> list[tuple[SystemPackage, str]]:
    """Install what is missing, as root with apt-get; return what is still missing and why.

    A package that starts a server is not installed where systemd would start it: it is the user's machine.
    """
    missing = [package for package in packages if not package.is_installed()]
    left: list[tuple[SystemPackage, str]] = []
    wanted: list[SystemPackage] = []
    for package in missing:
        if reason := _why_not(package):
            left.append((package, reason))
        else:
            wanted.append(package)
    if not wanted:
        return left
    # A fresh container has no package lists.
    subprocess.run(("apt-get", "update", "--quiet=2"), check=False)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for package in wanted:
        code = subprocess.run((*_INSTALL, package.name), env=environment, check=False).returncode
        if not package.is_installed():
            left.append((package, f"apt-get install {package.name} ended with code {code}"))
    return left


def _why_not(package: SystemPackage) -> str | None:
    if shutil.which("apt-get") is None:
        return "there is no apt-get here"
    if os.geteuid() != 0:
        return f"only root may install it: apt-get install {package.name}"
    if package.starts_service and Path("/run/systemd/system").is_dir():
        return f"its installation would start a server of its own: apt-get install {package.name}"
    return None
