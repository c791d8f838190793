"""What is done to the stack, step by step; each step returns what was seen, and fails where it must not be so."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx

from tests.compose.stack import ComposeStack, docker, service_of
from tests.faults.ledger import Ledger, Report
from tests.waiting import eventually

Step = Callable[[ComposeStack], str]

TAGS = ["check-1", "check-2"]
OWN = ["api", "db_writer", "worker", "ui", "dbt"]
"""Our services that stay; each is to end with 0 on SIGTERM."""
ONE_SHOT = ["checkpoints", "migrate", "seeder", "first-model"]
WORKERS = 3
_SOMEBODY_ELSE = 12345
_BASE_IMAGE = "python:3.11-slim-bookworm"
_MOST_ADDED_MIB = 200


def build(stack: ComposeStack) -> str:
    """Every image, from what the cache has."""
    stack.compose("--profile", "training", "build", "--quiet")
    base = _size(_BASE_IMAGE)
    added = {name: (_size(f"recstream-{name}:{stack.tag}") - base) / 2**20 for name in image_names(stack)}
    for name in ("api", "db_writer", "seeder", "admin"):
        assert added[name] <= _MOST_ADDED_MIB, f"{name} adds {added[name]:.0f} MiB"
    return "MiB added to the base image: " + ", ".join(f"{name} {size:,.0f}" for name, size in sorted(added.items()))


def change_code(stack: ComposeStack) -> str:
    """One line of code that every image holds, changed; built under a second tag, for the upgrade below."""
    with (stack.folder / "recstream" / "ops" / "clock.py").open("a", encoding="utf-8") as file:
        file.write("\n# changed\n")
    stack.tag = TAGS[1]
    started = time.monotonic()
    stack.compose("--profile", "training", "build", "--quiet")
    seconds = time.monotonic() - started
    stack.tag = TAGS[0]
    assert seconds < 60, f"{seconds:.0f} s: packages were installed again"
    return f"all {len(image_names(stack))} images again after a changed line: {seconds:.1f} s"


def start(stack: ComposeStack) -> str:
    """`up` with nothing there; answers come from popularity first and then, by itself, from SASRec."""
    if os.geteuid() == 0:  # an ordinary user cannot give a folder away; it is that user's own then
        os.chown(stack.checkpoints, _SOMEBODY_ELSE, _SOMEBODY_ELSE)
    before = stack.checkpoints.stat()
    started = time.monotonic()
    up = stack.start("up", "--detach", "--scale", f"worker={WORKERS}")
    output = _drain(up)
    first: dict[str, float] = {}

    def answered_by_sasrec() -> bool:
        assert up.poll() in (None, 0), "".join(output)[-4000:]
        result = stack.recommend()
        if result is not None:
            assert result["source"] == "sasrec" or result["reason"] == "no_trained_model", result
            first.setdefault(result["source"], time.monotonic() - started)
        return "sasrec" in first

    eventually(answered_by_sasrec, "an answer of SASRec's", within=600)
    assert up.wait(120) == 0, "".join(output)[-4000:]
    assert set(first) == {"popularity", "sasrec"}, "nothing was answered before the first model was trained"
    for service in ["kafka", "postgres", "prometheus", "grafana", *OWN]:
        stack.await_healthy(service)
    _await_ends(stack)
    after = stack.checkpoints.stat()
    assert (after.st_uid, after.st_mode & 0o7707) == (before.st_uid, before.st_mode & 0o7707)
    assert {path.stat().st_uid for path in stack.checkpoints.glob("*-*")} == {1000}
    return (
        f"first answer, popularity's, after {first['popularity']:.0f} s; SASRec's first after {first['sasrec']:.0f} s"
    )


def privileges(stack: ComposeStack) -> str:
    """No root, no capabilities, nothing to write to: as the kernel sees the processes."""
    looked_at = 0
    for container in stack.containers():
        service = service_of(container)
        if service not in OWN:
            continue
        assert container["HostConfig"]["ReadonlyRootfs"]
        folder = container["Config"]["WorkingDir"]
        script = (
            f"grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs)' /proc/1/status; touch {folder}/x 2>&1; touch /tmp/x && echo tmp"
        )
        told = docker("exec", container["Id"], "sh", "-c", script)
        for expected in ("Uid:\t1000\t1000", f"CapEff:\t{0:016x}", f"CapBnd:\t{0:016x}", "NoNewPrivs:\t1"):
            assert expected in told, f"{service}: {told}"
        assert "Read-only file system" in told
        assert told.endswith("tmp\n")
        if service in ("worker", "ui"):
            touch = ["exec", container["Id"], "sh", "-c", "touch /checkpoints/x 2>&1 || true"]
            assert "Read-only file system" in docker(*touch)
        looked_at += 1
    assert looked_at == len(OWN) - 1 + WORKERS
    return f"{looked_at} containers: uid 1000, no capabilities, no new privileges, read-only"


def workers(stack: ComposeStack) -> str:
    """Each worker has a name of its own and its share of the partitions, and serves the model."""
    found = stack.alive_workers()
    live = next(model for model in stack.get("/v1/models")["models"] if model["status"] == "live")
    assert len({worker["worker_id"] for worker in found}) == WORKERS
    assert {worker["model_version"] for worker in found} == {live["version"]}
    return f"{WORKERS} workers, {WORKERS} names, all serving {live['version']}"


def up_again(stack: ComposeStack) -> str:
    """A second `up` makes nothing anew and changes no data."""
    facts, ids = _facts(stack), _long_running(stack)
    stack.compose("up", "--detach", "--scale", f"worker={WORKERS}")
    assert _long_running(stack) == ids
    _await_ends(stack)
    assert _facts(stack) == facts
    return "same containers, same data, no second training"


def retrain(stack: ComposeStack) -> str:
    """The training profile, under load: workers change over without a lost or failed request."""
    ledger = Ledger(stack.url)
    with ledger.sending():
        _await_answers(ledger, "answers under load")
        before = ledger.latest_version()
        started = time.monotonic()
        stack.compose("--profile", "training", "run", "--rm", "trainer", "--epochs", "6", "--force")
        eventually(lambda: ledger.latest_version() != before, "an answer of the new model", within=60)
        seconds = time.monotonic() - started
        eventually(lambda: len({w["model_version"] for w in stack.alive_workers()}) == 1, "one version on all workers")
    report = _kept(ledger.close(stack.postgres, stack.kafka))
    assert set(report.statuses) == {"COMPLETED"}, report.statuses
    assert report.unanswered == 0
    assert len(report.versions) == 2, report.versions
    return f"new version after {seconds:.0f} s; {_sum(report)}"


def faults(stack: ComposeStack) -> str:
    """Each service in turn killed with SIGKILL under load, and started again."""
    ledger = Ledger(stack.url, patience_seconds=120)
    with ledger.sending():
        for service in ("worker", "db_writer", "api", "kafka", "postgres"):
            _await_answers(ledger, "answers under load")
            target = stack.of(service)[0]["Id"]
            docker("kill", "--signal", "KILL", target)
            # Some seconds of load meet its absence. Nothing depends on how many.
            eventually(_after(2.0), "a moment")
            docker("start", target)
            stack.await_healthy(service)
            _await_answers(ledger, f"answers after {service} came back")
    report = _kept(ledger.close(stack.postgres, stack.kafka))
    assert report.unanswered == 0, f"{report.unanswered} requests were never accepted"
    return f"worker, db_writer, api, kafka, postgres; {_sum(report)}"


def model_back(stack: ComposeStack) -> str:
    """An older model put into service, and the newer one again."""
    models = [model for model in stack.get("/v1/models")["models"] if model["kind"] == "sasrec"]
    newest, older = models[0]["version"], models[1]["version"]
    promote = ["run", "--rm", "--no-deps", "--entrypoint", "python", "migrate", "-m", "admin", "models", "promote"]
    for version in (older, newest):
        stack.compose(*promote, version)
        _await_version(stack, version)
        result = stack.recommend()
        assert result is not None
        assert result["model_version"] == version
    return "the older version answered, then the newer one again"


def code_upgrade(stack: ComposeStack) -> str:
    """Images of another tag, and back, under load."""
    ledger, ids = Ledger(stack.url, patience_seconds=120), _long_running(stack)
    with ledger.sending():
        for tag in (TAGS[1], TAGS[0]):
            _await_answers(ledger, "answers under load")
            stack.tag = tag
            stack.compose("up", "--detach", "--scale", f"worker={WORKERS}")
            for service in OWN:
                stack.await_healthy(service)
            images = {each["Config"]["Image"] for name in OWN for each in stack.of(name)}
            assert images == {f"recstream-{name}:{tag}" for name in OWN}
    for service in ("kafka", "postgres", "prometheus"):
        assert _long_running(stack)[service] == ids[service], f"{service} was made anew"
    report = _kept(ledger.close(stack.postgres, stack.kafka))
    assert report.unanswered == 0
    return f"to {TAGS[1]} and back; {_sum(report)}"


def page_and_monitoring(stack: ComposeStack) -> str:
    """The page answers; Prometheus reaches every target and has seen the requests."""
    page = httpx.get(f"http://127.0.0.1:{stack.ports.ui}/", timeout=10, trust_env=False)
    assert page.status_code == 200
    assert "streamlit" in page.text.lower()
    prometheus = f"http://127.0.0.1:{stack.ports.prometheus}/api/v1"

    def targets_up() -> dict[str, int]:
        found = httpx.get(f"{prometheus}/targets", timeout=10, trust_env=False).json()["data"]["activeTargets"]
        jobs = {job: [each["health"] for each in found if each["labels"]["job"] == job] for job in _jobs(found)}
        up = all(health == "up" for healths in jobs.values() for health in healths)
        complete = len(jobs.get("worker", [])) == WORKERS
        return {job: len(healths) for job, healths in jobs.items()} if up and complete else {}

    jobs = eventually(targets_up, "every target up", within=60)
    assert jobs == {"api": 1, "db_writer": 1, "marts": 1, "worker": WORKERS}
    query = {"query": "sum(worker_processed_total)"}

    def processed() -> float:
        found = httpx.get(f"{prometheus}/query", params=query, timeout=10, trust_env=False).json()["data"]["result"]
        return float(found[0]["value"][1]) if found else 0.0

    eventually(processed, "worker_processed_total", within=60)
    grafana = httpx.get(f"http://127.0.0.1:{stack.grafana_port}/api/health", timeout=10, trust_env=False)
    assert grafana.status_code == 200
    return "page 200; targets up: " + ", ".join(f"{job} {number}" for job, number in sorted(jobs.items()))


def marts(stack: ComposeStack) -> str:
    """The documented commands: dbt's log, dbt by hand, and a mart by its bare name, as its owner and as the analyst."""
    assert "dbt ended with status 0" in stack.compose("logs", "dbt")
    told = stack.compose("exec", "-T", "dbt", "dbt", "run", "--profiles-dir", ".")
    assert "Completed successfully" in told, told[-2000:]
    query = "SELECT * FROM dm_daily_stats ORDER BY report_date DESC;"
    days = stack.psql(query).splitlines()
    assert days, "dm_daily_stats is empty"
    analyst = ["exec", "-T", "postgres", "psql", "-U", "analyst", "-d", "sasrec", "-XAtc"]
    assert stack.compose(*analyst, query).strip().splitlines() == days
    assert "permission denied" in stack.compose(*analyst, "SELECT 1 FROM predictions", check=False)
    return f"{len(days)} days in dm_daily_stats; the analyst reads them and not the tables"


def stop(stack: ComposeStack) -> str:
    """SIGTERM: each ends by itself with 0, within its grace."""
    started = time.monotonic()
    stack.compose("stop")
    seconds = time.monotonic() - started
    codes = {service_of(each): each["State"]["ExitCode"] for each in stack.containers()}
    assert {codes[name] for name in OWN} == {0}, codes
    assert 137 not in codes.values(), codes
    return f"everything in {seconds:.0f} s; exit status 0 of {', '.join(OWN)}; none was killed"


def down_and_up(stack: ComposeStack) -> str:
    """The containers removed and made anew: data, models and the model in service are the same."""
    stack.compose("start")
    stack.await_healthy("api")
    facts = _facts(stack)
    stack.compose("down")
    assert stack.containers() == []
    started = time.monotonic()
    stack.compose("up", "--detach")
    for service in OWN:
        stack.await_healthy(service)
    seconds = time.monotonic() - started
    assert _facts(stack) == facts
    result = stack.recommend()
    assert result is not None
    assert result["model_version"] == facts["live"]
    rows = f"{facts['predictions']} requests, {facts['interactions']} interactions"
    return f"up again after {seconds:.0f} s: {rows}, same model"


STEPS: list[tuple[str, Step]] = [
    ("build", build),
    ("change of code", change_code),
    ("start from nothing", start),
    ("privileges", privileges),
    ("workers", workers),
    ("up twice", up_again),
    ("retraining under load", retrain),
    ("kill and restart under load", faults),
    ("model rollback", model_back),
    ("upgrade and rollback under load", code_upgrade),
    ("page and monitoring", page_and_monitoring),
    ("marts", marts),
    ("stop", stop),
    ("down and up", down_and_up),
]


def image_names(stack: ComposeStack) -> list[str]:
    """Return the images of our own, without `recstream-`."""
    services = json.loads(stack.compose("--profile", "training", "config", "--format", "json"))["services"]
    names = {service["image"].partition(":")[0] for service in services.values()}
    return sorted(name.removeprefix("recstream-") for name in names if name.startswith("recstream-"))


def _size(image: str) -> int:
    return int(docker("image", "inspect", "--format", "{{.Size}}", image))


def _drain(process: subprocess.Popen[str]) -> list[str]:
    """Keep a process' output from filling its pipe; the list grows while it runs."""
    lines: list[str] = []
    assert process.stdout is not None
    threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True).start()
    return lines


def _long_running(stack: ComposeStack) -> dict[str, list[str]]:
    """Return the ids of the containers that stay, by service."""
    found: dict[str, list[str]] = {}
    for each in stack.containers():
        if service_of(each) not in ONE_SHOT:
            found.setdefault(service_of(each), []).append(each["Id"])
    return {service: sorted(ids) for service, ids in found.items()}


def _facts(stack: ComposeStack) -> dict[str, Any]:
    """Return what must survive: how many rows of each kind, and the live model."""
    with stack.database() as connection:
        row = connection.execute(
            """
            SELECT (SELECT count(*) FROM predictions), (SELECT count(*) FROM interactions),
                   (SELECT count(*) FROM ml_models), (SELECT version FROM ml_models WHERE status = 'live')
            """
        ).fetchone()
    assert row is not None
    return dict(zip(("predictions", "interactions", "models", "live"), row, strict=True))


def _await_ends(stack: ComposeStack) -> None:
    """Wait until everything that runs once has ended, with 0."""

    def running() -> list[str]:
        return [name for name in ONE_SHOT for each in stack.of(name) if each["State"]["Running"]]

    eventually(lambda: not running(), "the end of what runs once")
    codes = {name: each["State"]["ExitCode"] for name in ONE_SHOT for each in stack.of(name)}
    assert set(codes.values()) == {0}, codes


def _await_answers(ledger: Ledger, what: str) -> None:
    """Wait until twenty more requests are answered."""
    known = ledger.answered()
    eventually(lambda: ledger.answered() > known + 20, what, within=120)


def _await_version(stack: ComposeStack, version: str) -> None:
    """Wait until every worker serves a model."""
    eventually(lambda: {w["model_version"] for w in stack.alive_workers()} == {version}, f"workers on {version}")


def _kept(report: Report) -> Report:
    assert report.problems == [], "\n".join(report.problems[:20])
    return report


def _sum(report: Report) -> str:
    statuses = ", ".join(f"{number} {status}" for status, number in sorted(report.statuses.items()))
    return (
        f"{report.accepted} requests accepted, {statuses}; repeated by clients {report.repeated}, "
        f"done twice {report.duplicates}; client, Kafka and PostgreSQL agree on each"
    )


def _after(seconds: float) -> Callable[[], bool]:
    """Return a condition that comes about by itself, for a fault that is to last a while."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until


def _jobs(targets: list[dict[str, Any]]) -> set[str]:
    return {target["labels"]["job"] for target in targets}
