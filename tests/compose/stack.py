"""One Compose project of its own: a copy of the checkout, ports, volumes, images and models that nobody else uses."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import psycopg

from launcher.ports import Ports, free_offset
from recstream.db.engine import connect
from recstream.db.settings import PostgresSettings
from recstream.kafka.settings import KafkaSettings
from tests.waiting import eventually

CHECKOUT = Path(__file__).resolve().parents[2]
PASSWORD = "change-me"
"""As .env.example has it."""
_PROJECT = "recstream-check"
_GRAFANA = 3000
_LONGEST_S = 1200


class ComposeStack:
    """Commands and addresses of the project. Nothing runs until `up`."""

    def __init__(self, folder: Path) -> None:
        """Copy the checkout as it stands into `folder`, with `.env.example` as its `.env`."""
        self.folder = folder / "recstream"
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=CHECKOUT, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        for name in filter(None, listed.split("\0")):
            if (CHECKOUT / name).is_file():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(CHECKOUT / name, self.folder / name)
        offset = free_offset()
        self.ports = Ports.with_offset(offset, 1)
        self.grafana_port = _GRAFANA + offset
        own = {
            "RECSTREAM_API_PORT": self.ports.api,
            "RECSTREAM_UI_PORT": self.ports.ui,
            "RECSTREAM_PROMETHEUS_PORT": self.ports.prometheus,
            "RECSTREAM_GRAFANA_PORT": self.grafana_port,
            "RECSTREAM_KAFKA_PORT": self.ports.kafka,
            "RECSTREAM_POSTGRES_PORT": self.ports.postgres,
            "COMPOSE_PROJECT_NAME": _PROJECT,
        }
        example = (self.folder / ".env.example").read_text(encoding="utf-8")
        lines = "".join(f"{name}={value}\n" for name, value in own.items())
        (self.folder / ".env").write_text(f"{example}\n{lines}", encoding="utf-8")
        self.tag = "check-1"

    @property
    def url(self) -> str:
        """Where the API answers."""
        return f"http://127.0.0.1:{self.ports.api}"

    @property
    def checkpoints(self) -> Path:
        """The folder of models."""
        return self.folder / "checkpoints"

    @property
    def postgres(self) -> PostgresSettings:
        """How to reach the database from here."""
        return PostgresSettings(host="127.0.0.1", port=self.ports.postgres, password=PASSWORD)

    @property
    def kafka(self) -> KafkaSettings:
        """How to reach the broker from here."""
        return KafkaSettings(bootstrap_servers=f"127.0.0.1:{self.ports.kafka}")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a `docker compose` command and return its process."""
        return subprocess.Popen(
            ["docker", "compose", *arguments],
            cwd=self.folder, env=self._environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def compose(self, *arguments: str, check: bool = True) -> str:
        """Run `docker compose` to its end and return what it printed."""
        process = self.start(*arguments)
        try:
            output, _ = process.communicate(timeout=_LONGEST_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        if check:
            assert process.returncode == 0, f"docker compose {' '.join(arguments)}:\n{output[-4000:]}"
        return output

    def psql(self, query: str) -> str:
        """Return a query's rows, as the documented command prints them but without decoration."""
        return self.compose("exec", "-T", "postgres", "psql", "-U", "sasrec", "-d", "sasrec", "-XAtc", query).strip()

    def database(self) -> psycopg.Connection:
        """Open a connection through the published port."""
        return connect(self.postgres, "tests")

    def containers(self) -> list[dict[str, Any]]:
        """Return what the engine knows of each container of the project, ended ones too."""
        ids = self.compose("ps", "--all", "--quiet").split()
        inspected: list[dict[str, Any]] = json.loads(docker("inspect", *ids)) if ids else []
        return inspected

    def of(self, service: str) -> list[dict[str, Any]]:
        """Return the containers of one service."""
        return [found for found in self.containers() if service_of(found) == service]

    def await_healthy(self, service: str, within: float = 180) -> None:
        """Wait until every container of a service is healthy."""
        eventually(
            lambda: (found := self.of(service)) and all(health_of(each) == "healthy" for each in found),
            f"healthy containers of {service}",
            within=within,
        )

    def get(self, path: str) -> Any:
        """Return the JSON of the API at a path."""
        answer = httpx.get(f"{self.url}{path}", timeout=10, trust_env=False)
        answer.raise_for_status()
        return answer.json()

    def alive_workers(self) -> list[dict[str, Any]]:
        """Return the workers that report."""
        return [worker for worker in self.get("/v1/workers")["workers"] if worker["alive"]]

    def recommend(self, wait: int = 5) -> dict[str, Any] | None:
        """Ask for one answer; None where there is none yet."""
        try:
            answer = httpx.post(
                f"{self.url}/v1/recommendations", json={"user_id": "user_1"}, headers={"Prefer": f"wait={wait}"},
                timeout=wait + 5, trust_env=False,
            )  # fmt: skip
        except httpx.TransportError:
            return None
        result: dict[str, Any] | None = answer.json()["result"] if answer.status_code == 200 else None
        return result

    def remove(self, tags: list[str]) -> None:
        """Take everything away: containers, volumes, images and the models, which another account owns."""
        self.compose("--profile", "training", "down", "--volumes", "--remove-orphans", "--timeout", "30", check=False)
        for image in docker("images", "--format", "{{.Repository}}:{{.Tag}}").split():
            if image.startswith("recstream-") and image.rpartition(":")[2] in tags:
                docker("image", "rm", image)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _environment(self) -> Mapping[str, str]:
        # What a developer has set would come before .env; which torch to install is nothing to test here.
        steering = ("COMPOSE_", "RECSTREAM_", "POSTGRES_", "CHECKPOINTS_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
        kept |= {name: value for name, value in os.environ.items() if name == "RECSTREAM_TORCH_INDEX"}
        return kept | {"RECSTREAM_TAG": self.tag, "COMPOSE_PROGRESS": "plain"}


def docker(*arguments: str) -> str:
    """Run `docker` to its end and return what it printed."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def service_of(container: dict[str, Any]) -> str:
    """Return the service that a container belongs to."""
    service: str = container["Config"]["Labels"]["com.docker.compose.service"]
    return service


def health_of(container: dict[str, Any]) -> str:
    """Return healthy, unhealthy, starting, or what the state is where there is no health check."""
    state = container["State"]
    health: str = state.get("Health", {}).get("Status") or state["Status"] if state["Running"] else state["Status"]
    return health
