"""Apache Kafka's jars: resolved by jgo, from lock files that fix versions and SHA-256 but name no host.

Kafka and its logging back end are locked as two jgo environments: resolved together, an old kafka-clients wins.
`python -m launcher.lock_jars` makes the lock files anew.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import requests
from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.env import LockedDependency, LockFile
from jgo.maven import MavenContext

from launcher.errors import LauncherError

LOCKS = Path(__file__).parent / "kafka_jars"
ENVIRONMENTS = ("kafka", "logging")
"""In class path order: of an artifact in both, the first environment's version is taken."""
_DOWNLOADS_AT_ONCE = 6


def locked_jars() -> list[LockedDependency]:
    """Return the jars of Kafka's class path, in order, each artifact once."""
    chosen: dict[tuple[str, str], LockedDependency] = {}
    for environment in ENVIRONMENTS:
        for jar in LockFile.load(LOCKS / f"{environment}.lock.toml").dependencies:
            chosen.setdefault((jar.groupId, jar.artifactId), jar)
    return list(chosen.values())


def repository(fallback: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the Maven repository to keep jars in: the user's own as jgo knows it, else `fallback`.

    The fallback serves accounts without a home folder, or with one that cannot be written.
    """
    home = environ.get("HOME", "")
    if not environ.get("M2_REPO") and not (home and Path(home).is_dir() and os.access(home, os.W_OK)):
        return fallback
    chosen = Path(GlobalSettings.load().repo_cache)
    try:
        chosen.mkdir(parents=True, exist_ok=True)
    except OSError:
        return fallback
    return chosen if os.access(chosen, os.W_OK) else fallback


def fetch(repo: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> list[Path]:
    """Return the paths of all jars, after fetching what `repo` lacks and checking every SHA-256.

    Safe beside other launchers on the same repository: a jar appears there by a rename, complete and checked.

    Args:
        repo: a Maven repository folder; it is made where it is missing.
        progress: called with (jars there, jars in all); what it raises ends the fetching.

    Raises:
        LauncherError: where a jar cannot be fetched or is not the one that was locked.
    """
    jars = locked_jars()
    paths = [repo / _relative_path(jar) for jar in jars]
    missing = [(jar, path) for jar, path in zip(jars, paths, strict=True) if _sha256(path) != jar.sha256]
    progress(len(jars) - len(missing), len(jars))
    if missing:
        repo.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=repo, prefix=".recstream-") as staging,
            ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool,
        ):
            remotes = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
            context = MavenContext(repo_cache=Path(staging), remote_repos=remotes, timeout=30)
            downloads = [pool.submit(_download, context, jar, path) for jar, path in missing]
            try:
                for done, download in enumerate(as_completed(downloads), start=len(jars) - len(missing) + 1):
                    download.result()
                    progress(done, len(jars))
            finally:
                pool.shutdown(cancel_futures=True)
    return paths


def _download(context: MavenContext, jar: LockedDependency, path: Path) -> None:
    artifact = context.project(jar.groupId, jar.artifactId).at_version(jar.version).artifact(packaging=jar.packaging)
    name = f"{jar.groupId}:{jar.artifactId}:{jar.version}"
    try:
        fetched = artifact.resolve()
    except (requests.RequestException, RuntimeError, OSError) as error:
        raise LauncherError(
            f"Kafka's jar {name} could not be fetched ({type(error).__name__}). Kafka's jars come from a Maven "
            "repository at the first start: check the network, or name a mirror under [repositories] in jgo's "
            "configuration file, then start again; what was fetched is kept."
        ) from error
    if _sha256(fetched) != jar.sha256:
        raise LauncherError(f"The fetched jar {name} is not the one that was locked: its SHA-256 differs.")
    path.parent.mkdir(parents=True, exist_ok=True)
    fetched.replace(path)


def _relative_path(jar: LockedDependency) -> Path:
    folder = Path(*jar.groupId.split(".")) / jar.artifactId / jar.version
    return folder / f"{jar.artifactId}-{jar.version}.{jar.packaging}"


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
