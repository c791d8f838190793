"""The whole journey, with the commands that a user types: start, ask, retrain under load, stop, start again."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from launcher.ports import Ports, free_offset
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Stack:
    """A stack of this test's own: state folder, checkpoints and ports beside those of a person's `./run up`."""

    home: Path
    port_offset: int

    def run(self, *arguments: str, within: float = 120) -> subprocess.CompletedProcess[str]:
        """Call `./run` as far as Python goes (what it installs is installed: this test runs on it)."""
        return subprocess.run(
            [sys.executable, "-P", "-m", "launcher", *arguments],
            env=os.environ | {"RECSTREAM_HOME": str(self.home), "COLUMNS": "160"},
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )

    def up(self) -> subprocess.CompletedProcess[str]:
        """Start it, detached."""
        return self.run("up", "--detach", f"--port-offset={self.port_offset}", within=200)

    def status(self) -> dict[str, Any]:
        """Return what `status` knows of each service, by name."""
        state = json.loads(self.run("status", "--json").stdout)["state"]
        return {service["name"]: service for service in state["services"]}

    def psql(self, query: str) -> str:
        """Return a query's rows as text."""
        done = self.run("psql", "-XAtc", query)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @property
    def url(self) -> str:
        """Where the API answers."""
        return f"http://127.0.0.1:{Ports.with_offset(self.port_offset, 1).api}"

    def recommend(self, **body: object) -> httpx.Response:
        """Ask and wait for the answer."""
        return httpx.post(f"{self.url}/v1/recommendations", json=body, headers={"Prefer": "wait=5"}, timeout=10)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Return a stack that is not running; it is stopped at the end."""
    chosen = Stack(tmp_path_factory.mktemp("stack"), free_offset(workers=3))
    yield chosen
    chosen.run("down")
    chosen.run("reset", "--yes")  # its database may lie outside the folder that pytest removes


class _Load:
    """Fifty requests a second, each waited for, until told to stop."""

    def __init__(self, url: str) -> None:
        self.versions: list[str] = []
        self.failures: list[str] = []
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(5)]

    def __enter__(self) -> "_Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        with httpx.Client(timeout=20) as client:
            while not self._stop.wait(0.1):
                user = f"user_{random.randint(1, 100)}"
                answer = client.post(
                    f"{self._url}/v1/recommendations", json={"user_id": user}, headers={"Prefer": "wait=15"}
                )
                if answer.status_code == 200 and answer.json()["status"] == "COMPLETED":
                    self.versions.append(answer.json()["result"]["model_version"])
                else:
                    self.failures.append(answer.text)


def test_the_whole_journey(stack: Stack) -> None:
    # One command starts everything, with a trained model.
    started = stack.up()
    assert started.returncode == 0, started.stdout + started.stderr
    assert "Recstream is ready" in started.stdout
    assert stack.url in started.stdout
    assert "is running already" in stack.up().stdout

    # A waited request is answered in the same call.
    answer = stack.recommend(user_id="user_1")
    assert answer.status_code == 200, answer.text
    result = answer.json()["result"]
    assert len(result["items"]) == 10
    assert result["source"] == "sasrec"
    assert result["model_version"].startswith("sasrec-")

    # Without waiting: 202, and the Location soon has the answer; the row agrees.
    accepted = httpx.post(f"{stack.url}/v1/recommendations", json={"user_id": "user_2"})
    assert accepted.status_code == 202
    location = stack.url + accepted.headers["location"]
    eventually(lambda: httpx.get(location).json()["status"] == "COMPLETED")
    row = f"SELECT status, model_version FROM predictions WHERE request_id = '{accepted.json()['request_id']}'"
    eventually(lambda: stack.psql(row) == f"COMPLETED|{result['model_version']}", what="the row")

    # A person sees titles.
    shown = stack.run("request", "user_1", "--k", "3")
    assert shown.returncode == 0, shown.stderr
    title = httpx.get(f"{stack.url}/v1/items", params={"ids": result["items"][0]["item_id"]}).json()["items"][0][
        "title"
    ]
    assert title in shown.stdout
    assert result["model_version"] in shown.stdout

    # Retraining under load: no error, every result names one version, the new one takes over without a restart.
    with _Load(stack.url) as load:
        eventually(lambda: len(load.versions) > 20)
        trained = stack.run("train", within=180)
        assert trained.returncode == 0, trained.stdout + trained.stderr
        eventually(lambda: load.versions[-1] != result["model_version"], what="the new version under load")
    newer = load.versions[-1]
    assert load.failures == []
    assert set(load.versions) == {result["model_version"], newer}

    # A worker that is killed comes back, and nothing is lost meanwhile.
    before = stack.status()["worker-1"]
    os.kill(before["process"]["pid"], signal.SIGKILL)
    assert stack.recommend(user_id="user_3").status_code in {200, 202}
    eventually(
        lambda: (now := stack.status()["worker-1"])["restarts"] > before["restarts"] and now["status"] == "ready",
        within=60,
        what="the worker's restart",
    )
    pending = "SELECT count(*) FROM predictions WHERE status = 'PENDING'"
    eventually(lambda: stack.psql(pending) == "0", within=60, what="nothing left pending")

    # Stop and start: everything is still there, on the same model.
    stopped = stack.run("down")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert stack.run("status").returncode == 1
    started_at = time.monotonic()
    again = stack.up()
    assert again.returncode == 0, again.stdout + again.stderr
    print(f"the second start took {time.monotonic() - started_at:.1f} s")
    assert httpx.get(location).json()["status"] == "COMPLETED"
    assert stack.recommend(user_id="user_1").json()["result"]["model_version"] == newer
    assert stack.psql("SELECT count(*) FROM users") == "100"
    assert stack.run("down").returncode == 0
