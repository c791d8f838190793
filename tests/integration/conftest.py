"""The services as processes on the shared Kafka and PostgreSQL, as a user runs them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import psycopg
import pytest
import torch

from launcher.infrastructure import LocalInfrastructure
from launcher.service_env import worker_env
from recstream.db.engine import connect
from recstream.db.settings import PostgresSettings
from recstream.kafka.announcements import ModelRecord, announce_model
from recstream.kafka.settings import KafkaSettings
from recstream.messages.control import AnnouncementReason, ModelAnnounced
from recstream.model.bundle import BundleReference, write_bundle
from recstream.model.config import SasrecConfig
from recstream.model.drift import DriftReference
from recstream.model.manifest import CONFIG, DRIFT_REFERENCE, POPULARITY, VOCABULARY, WEIGHTS, DataWindow
from recstream.model.net import Sasrec
from recstream.model.popularity import Popularity
from recstream.model.vocabulary import Vocabulary
from recstream.model.weights import save_weights
from tests.waiting import answers, eventually

ITEMS = [str(number) for number in range(1, 201)]


@dataclass
class Process:
    """A service's process and its log."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def terminate(self, within: float = 20) -> int:
        """Send SIGTERM; return the exit status."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(within)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.popen.kill()
        self.popen.wait()


@dataclass
class Services:
    """Running services and how to reach them."""

    infrastructure: LocalInfrastructure
    kafka: KafkaSettings
    postgres: PostgresSettings
    checkpoints: Path
    env: dict[str, str]
    processes: list[Process] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where the API answers."""
        return f"http://127.0.0.1:{self.infrastructure.ports.api}"

    def start(self, name: str, module: str, env: dict[str, str]) -> Process:
        """Start a service; it is stopped with the session."""
        log = self.infrastructure.layout.log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            popen = subprocess.Popen([sys.executable, "-m", module], env=env, stdout=output, stderr=output)
        process = Process(name, popen, log)
        self.processes.append(process)
        return process

    def start_worker(self, worker_id: str) -> Process:
        """Start a worker on a free metrics port."""
        return self.start(worker_id, "worker", worker_env(self.env, worker_id, 0))

    def process(self, name: str) -> Process:
        """Return the running process of that name, the one started last."""
        return next(p for p in reversed(self.processes) if p.name == name and p.popen.poll() is None)

    def announce(self, bundle: BundleReference, metrics: dict[str, float] | None = None) -> ModelAnnounced:
        """Announce a bundle as the trainer does."""
        record = ModelRecord(
            bundle.version, bundle.kind, bundle.folder, bundle.manifest_sha256, bundle.created_at, metrics or {}
        )
        with self.connect() as connection:
            return announce_model(connection, self.kafka, record, reason=AnnouncementReason.TRAINED, service="trainer")

    def connect(self) -> psycopg.Connection:
        """Open a connection of one's own."""
        return connect(self.postgres, "tests")

    def workers(self) -> dict[str, dict[str, object]]:
        """Return what the API knows of the workers that are alive, by id."""
        listed = httpx.get(f"{self.url}/v1/workers").json()["workers"]
        return {worker["worker_id"]: worker for worker in listed if worker["alive"]}

    def await_version(self, version: str) -> None:
        """Wait until every live worker serves that version."""
        eventually(
            lambda: (found := self.workers()) and all(w["model_version"] == version for w in found.values()),
            what=f"every worker serving {version}",
        )

    def recommend(
        self, body: dict[str, object], wait: int = 10, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """POST a request and wait for its result."""
        return httpx.post(
            f"{self.url}/v1/recommendations",
            json=body,
            headers={"Prefer": f"wait={wait}", **(headers or {})},
            timeout=20,
        )

    def close(self) -> None:
        """Stop every process, the last started first."""
        for process in reversed(self.processes):
            if process.popen.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.terminate()
                if process.popen.poll() is None:
                    process.kill()


def make_sasrec(checkpoints: Path, seed: int, reference: DriftReference | None = None) -> BundleReference:
    """Write an untrained SASRec bundle: its scores are arbitrary but reproducible."""
    torch.manual_seed(seed)
    config = SasrecConfig(n_items=len(ITEMS), max_length=20, d_model=16, n_blocks=1, dropout=0.0)
    counts = np.linspace(1, 0.01, len(ITEMS))
    return write_bundle(
        checkpoints,
        kind="sasrec",
        created_at=datetime.now(UTC),
        data=DataWindow(first_at=None, last_at=None, interactions=0, users=0, items=len(ITEMS)),
        parent=None,
        files={
            CONFIG: config.to_json(),
            WEIGHTS: save_weights(Sasrec(config)),
            VOCABULARY: Vocabulary(ITEMS).to_json(),
            POPULARITY: Popularity(ITEMS, counts.tolist()).to_json(),
            **({DRIFT_REFERENCE: reference.to_json()} if reference else {}),
        },
    )


@pytest.fixture(scope="session")
def services(infrastructure: LocalInfrastructure, kafka: KafkaSettings) -> Iterator[Services]:
    """Return api, db_writer and one worker, running, with a SASRec bundle loaded."""
    settings = {"API_OUTBOX_GRACE_SECONDS": "10.5", "API_MAX_BODY_BYTES": "100000"}
    with running_services(infrastructure, kafka, settings) as running:
        yield running


@contextlib.contextmanager
def running_services(
    infrastructure: LocalInfrastructure, kafka: KafkaSettings, settings: Mapping[str, str]
) -> Iterator[Services]:
    """Run api, db_writer and one worker with further variables; yield when all are ready and serve a SASRec bundle."""
    env = infrastructure.env | dict(settings)
    subprocess.run([sys.executable, "-m", "admin", "migrate"], env=env, check=True)
    postgres = PostgresSettings(
        port=infrastructure.ports.postgres,
        password=infrastructure.postgres.password_file.read_text(encoding="utf-8").strip(),
    )
    running = Services(infrastructure, kafka, postgres, infrastructure.layout.checkpoints, env)
    try:
        announced = running.announce(make_sasrec(running.checkpoints, seed=0))
        running.start("db_writer", "db_writer", env)
        running.start("api", "api", env)
        running.start_worker("worker-1")
        eventually(lambda: answers(f"{running.url}/health/ready"), what="the api")
        eventually(lambda: answers(f"http://127.0.0.1:{infrastructure.ports.db_writer}/health/ready"), what="writer")
        running.await_version(announced.model_version)
        yield running
    finally:
        running.close()
        if os.environ.get("CI"):
            for process in running.processes:
                print(f"--- {process.name}\n{process.log.read_text()[-4000:]}")  # shown where a test failed


@pytest.fixture
def postgres(services: Services) -> Iterator[psycopg.Connection]:
    """Return a connection to the services' database; every statement commits."""
    with services.connect() as connection:
        connection.autocommit = True
        yield connection


def as_json(text: str | bytes) -> dict[str, object]:
    """Parse a JSON object."""
    parsed = json.loads(text)
    assert isinstance(parsed, dict)
    return parsed
