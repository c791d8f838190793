"""Requests that were cancelled or have expired while they waited, so that the worker need not answer them."""

from collections import OrderedDict
from collections.abc import Sequence
from uuid import UUID

from confluent_kafka import Message

from recstream.kafka.results import read_result
from recstream.kafka.settings import KafkaSettings
from recstream.kafka.tail import Start, Tail
from recstream.messages.codec import BadMessage
from recstream.messages.identifiers import request_id_key
from recstream.messages.inference import Status
from recstream.messages.topics import INFERENCE_RESULTS

_CAPACITY = 100_000
"""Some 15 MB. What is forgotten is answered, and that answer then comes second."""
_ENDS = (b'"cancelled"', b'"expired"')


class EndedRequests:
    """Follows `inference.results` from now on; what has passed before is unknown, which costs an inference at most."""

    def __init__(self, kafka: KafkaSettings, worker_id: str, capacity: int = _CAPACITY) -> None:
        self._tail = Tail(kafka, f"{worker_id}-results", INFERENCE_RESULTS.name, Start.END, self._on_records)
        self._capacity = capacity
        self._keys: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, request_id: object) -> bool:
        """Tell whether the request of that id is known to have ended. Safe beside the tail's thread."""
        return isinstance(request_id, UUID) and request_id_key(request_id) in self._keys

    def start(self) -> None:
        """Start following; returns at once."""
        self._tail.start()

    def close(self) -> None:
        """Stop following. Blocks."""
        self._tail.close()

    def _on_records(self, records: Sequence[Message]) -> None:
        for record in records:
            value = record.value()
            # Nearly all are workers' answers: two searches tell them apart without parsing each.
            if value is None or not any(end in value for end in _ENDS):
                continue
            try:
                result = read_result(record)
            except BadMessage:
                continue  # db_writer sets it aside
            if result.status in {Status.CANCELLED, Status.EXPIRED}:
                self._keys[request_id_key(result.request_id)] = None
        while len(self._keys) > self._capacity:
            self._keys.popitem(last=False)
