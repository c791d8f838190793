"""How each part is, and what waits between them, as far as each tells by itself: Prometheus is not needed for it."""

from dataclasses import dataclass
from enum import Enum

import httpx
import streamlit as st
from prometheus_client.parser import text_string_to_metric_families

from ui import resources
from ui.api_client import ApiError
from ui.changeover import workers_now
from ui.formatting import count

_LOOK_SECONDS = 2
_TIMEOUT_SECONDS = 1.0
GET_PROMETHEUS = (
    "Prometheus keeps the history that these panels show. `./run up` runs it where it is installed (Debian: "
    "`apt-get install prometheus`, or `RECSTREAM_PROMETHEUS=/path/to/prometheus`); elsewhere `UI_PROMETHEUS_URL` says "
    "where it is."
)


class State(Enum):
    """How a part is; the value is (icon, colour)."""

    WELL = (":material/check_circle:", "green")
    DOWN = (":material/cancel:", "red")
    OFF = (":material/do_not_disturb_on:", "gray")
    UNKNOWN = (":material/help:", "orange")


@dataclass(frozen=True, slots=True)
class Part:
    """A part and how it is, with a few words on it."""

    name: str
    state: State
    words: str


@dataclass(frozen=True, slots=True)
class Queue:
    """What a group of consumers has not taken from a topic yet."""

    topic: str
    group: str
    waiting: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits: accepted requests that Kafka has not confirmed, records on topics, records set aside."""

    backlog: int | None
    queues: list[Queue]
    set_aside: dict[str, int]


@st.cache_data(ttl=_LOOK_SECONDS, show_spinner=False)
def parts() -> list[Part]:
    """Return how every part is now, for all browsers together."""
    return [*_told_by_the_api(), _db_writer(), _prometheus()]


@st.cache_data(ttl=_LOOK_SECONDS, show_spinner=False)
def waiting() -> Waiting:
    """Return what waits, as the API knows it. Raises ApiError."""
    return read_waiting(resources.api().metrics())


def read_waiting(text: str) -> Waiting:
    """Read what waits from the API's metrics; what they lack is None or missing."""
    backlog: int | None = None
    queues: list[Queue] = []
    set_aside: dict[str, int] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            match sample.name:
                case "outbox_backlog_rows":
                    backlog = int(sample.value)
                case "kafka_group_lag_records":
                    queues.append(Queue(sample.labels["topic"], sample.labels["group"], int(sample.value)))
                case "kafka_dead_letter_records":
                    set_aside[sample.labels["topic"]] = int(sample.value)
    return Waiting(backlog, sorted(queues, key=lambda queue: queue.topic), set_aside)


def _told_by_the_api() -> list[Part]:
    kafka_well = resources.result_feed().connected
    kafka = Part(
        "Kafka",
        State.WELL if kafka_well else State.DOWN,
        "results arrive" if kafka_well else "cannot be reached from here",
    )
    try:
        checks = resources.api().health().checks
    except ApiError:
        unknown = "the API would say, and is down"
        return [
            Part("API", State.DOWN, f"no answer at {resources.api().url}"),
            Part("PostgreSQL", State.UNKNOWN, unknown),
            kafka,
            Part("Workers", State.UNKNOWN, unknown),
        ]
    postgres = checks.get("postgres", False)
    room = checks.get("backlog", True)
    return [
        Part("API", State.WELL if room else State.DOWN, "answers" if room else "takes no requests: backlog full"),
        Part("PostgreSQL", State.WELL if postgres else State.DOWN, "answers" if postgres else "no answer to the API"),
        kafka,
        _workers(),
    ]


def _workers() -> Part:
    try:
        workers = workers_now()
    except ApiError as error:
        return Part("Workers", State.UNKNOWN, str(error))
    alive = [worker for worker in workers if worker.alive]
    silent = len(workers) - len(alive)
    words = f"{count(len(alive), 'worker')} running" + (f", {silent} silent" if silent else "")
    if any(worker.state == "rejected" for worker in alive):
        return Part("Workers", State.UNKNOWN, f"{words}; a model was refused")
    return Part("Workers", State.WELL if alive else State.DOWN, words if alive else "none is running")


def _db_writer() -> Part:
    try:
        # trust_env off: a proxy of the environment is for other addresses than the services' own.
        answer = httpx.get(
            f"{resources.settings().db_writer_url}/health/ready", timeout=_TIMEOUT_SECONDS, trust_env=False
        )
    except (httpx.HTTPError, httpx.InvalidURL):
        return Part("db_writer", State.DOWN, "no answer; results wait on their topic")
    if answer.status_code == 200:
        return Part("db_writer", State.WELL, "writes")
    return Part("db_writer", State.DOWN, "not ready; results wait on their topic")


def _prometheus() -> Part:
    if resources.prometheus().ready():
        return Part("Prometheus", State.WELL, "answers")
    return Part("Prometheus", State.OFF, "not running; nothing else needs it")
