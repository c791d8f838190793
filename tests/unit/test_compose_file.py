"""docker-compose.yml and Dockerfile, read as files: what can be wrong with them without an engine.

tests/compose/run is the test with one.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher.kafka import KafkaServer
from recstream.ops import ports
from tests.unit.test_settings import EXAMPLE, known_variables

CHECKOUT = Path(__file__).resolve().parents[2]
DOCKERFILE = (CHECKOUT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = (CHECKOUT / "docker-compose.yml").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
GPU = (CHECKOUT / "docker-compose.gpu.yml").read_text(encoding="utf-8")
OWN = {name: service for name, service in SERVICES.items() if service["image"].startswith("recstream-")}
TARGETS = re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE)
INTERMEDIATE = {"python", "services", "page", "torch", "code"}


def test_it_has_every_service() -> None:
    assert OWN.keys() == {
        "checkpoints", "migrate", "seeder", "api", "worker", "db_writer", "ui", "dbt", "first-model", "trainer"
    }  # fmt: skip
    assert SERVICES.keys() - OWN.keys() == {"kafka", "postgres", "prometheus", "grafana"}
    assert [name for name, service in SERVICES.items() if service.get("profiles")] == ["trainer"]


@pytest.mark.parametrize("name", SERVICES)
def test_images_have_a_tag_that_stays(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].partition(":")
    assert tag == "${RECSTREAM_TAG:-local}" if name in OWN else re.search(r"\d", tag), image
    assert tag != "latest"


def test_every_target_of_the_dockerfile_is_a_service_and_the_reverse() -> None:
    built = {service["build"]["target"] for service in SERVICES.values() if "build" in service}
    assert built == set(TARGETS) - INTERMEDIATE
    for service in OWN.values():
        assert service["image"].split(":")[0].removeprefix("recstream-") in built
        if "build" in service:
            assert service["image"].startswith(f"recstream-{service['build']['target']}:")


def test_the_gpu_is_for_what_trains_in_an_image_of_its_own() -> None:
    services = yaml.safe_load(GPU)["services"]
    assert services.keys() == {
        name for name, service in OWN.items() if service["image"].startswith("recstream-trainer:")
    }
    for service in services.values():
        assert service["image"] == "recstream-trainer-gpu:${RECSTREAM_TAG:-local}"
        assert service["environment"].keys() <= known_variables()


def test_only_worker_and_trainer_carry_torch() -> None:
    assert set(re.findall(r"^FROM torch AS (\S+)$", DOCKERFILE, re.MULTILINE)) == {"worker", "trainer"}


@pytest.mark.parametrize("name", OWN)
def test_containers_have_no_privileges(name: str) -> None:
    service = OWN[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"]
    # The one that gives the others' group its right to write may do that and nothing else.
    if name == "checkpoints":
        assert (service["user"], service["cap_add"], service["network_mode"]) == ("0:0", ["CHOWN", "FOWNER"], "none")
    else:
        assert service["user"] == "${RECSTREAM_UID:-1000}:${RECSTREAM_GID:-1000}"
        assert "cap_add" not in service


def test_only_what_writes_models_may_write_to_the_checkpoints() -> None:
    mounts = {
        name: volume.get("read_only", False)
        for name, service in SERVICES.items()
        for volume in service.get("volumes", [])
        if isinstance(volume, dict) and volume["target"] == "/checkpoints"
    }
    assert mounts == {
        "checkpoints": False, "seeder": False, "first-model": False, "trainer": False, "worker": True, "ui": True
    }  # fmt: skip


def test_ports_are_published_on_loopback_and_are_the_usual_ones() -> None:
    published = {}
    for name, service in SERVICES.items():
        for entry in service.get("ports", []):
            match = re.fullmatch(r"\$\{RECSTREAM_BIND:-127\.0\.0\.1\}:\$\{RECSTREAM_\w+_PORT:-(\d+)\}:(\d+)", entry)
            assert match, f"{name}: {entry}"
            assert match[1] == match[2]
            published[name] = int(match[1])
    assert published == {
        "api": ports.API,
        "ui": ports.UI,
        "kafka": ports.KAFKA,
        "postgres": ports.POSTGRES,
        "prometheus": ports.PROMETHEUS,
        "grafana": 3000,
    }


@pytest.mark.parametrize("name", OWN.keys() - {"checkpoints"})
def test_variables_of_our_containers_are_settings(name: str) -> None:
    # dbt's are in no settings class: its script needs nothing of Recstream's.
    others = {"POSTGRES_PASSWORD_FILE"} | ({"MARTS_METRICS_HOST", "MARTS_METRICS_PORT"} if name == "dbt" else set())
    assert set(OWN[name]["environment"]) - known_variables() <= others


def test_what_compose_reads_is_in_the_example() -> None:
    read = set(re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)", COMPOSE + GPU))
    shown = set(re.findall(r"^#?\s?([A-Z][A-Z0-9_]+)=", EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE))
    assert read - shown == set()


def test_kafka_is_set_up_as_the_launcher_does(tmp_path: Path) -> None:
    launcher = KafkaServer(tmp_path, tmp_path, tmp_path, 1, 2)._properties(tmp_path)
    own = dict(line.split("=", 1) for line in launcher.splitlines())
    environment = {
        name.removeprefix("KAFKA_").replace("_", ".").lower(): str(value)
        for name, value in SERVICES["kafka"]["environment"].items()
    }
    addresses = {
        "controller.quorum.voters", "listeners", "advertised.listeners", "listener.security.protocol.map",
        "inter.broker.listener.name", "log.dirs",
    }  # fmt: skip
    assert own.keys() <= environment.keys()
    assert {name: environment[name] for name in own.keys() - addresses} == {
        name: own[name] for name in own.keys() - addresses
    }


def test_the_build_context_is_what_the_dockerfile_copies() -> None:
    copied = set(re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE, re.MULTILINE))
    ignore = (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignore
    assert {line[1:] for line in ignore if line.startswith("!")} == copied | {"requirements/*.lock"}


def test_no_file_names_a_place_to_download_from() -> None:
    for text in (DOCKERFILE, COMPOSE, GPU):
        hosts = set(re.findall(r"https?://([^/:\s\"']+)", text))
        assert hosts <= SERVICES.keys() | {"127.0.0.1"}
