"""The ledger itself: it finds nothing where all is well, and names each way in which a promise can be broken."""

import uuid

import pytest

from recstream.kafka.producer import ConfirmingProducer
from recstream.messages.codec import encode
from recstream.messages.envelope import event_headers
from recstream.messages.identifiers import request_id_key
from recstream.messages.inference import InferenceResult, ResultError, Status
from recstream.messages.topics import INFERENCE_RESULTS
from tests.faults.ledger import Ledger
from tests.integration.conftest import Services
from tests.waiting import eventually

pytestmark = pytest.mark.integration


def test_it_notices_what_is_not_as_the_clients_were_told(services: Services) -> None:
    ledger = Ledger(services.url, per_second=50)
    with ledger.sending():
        eventually(lambda: ledger.answered() >= 12, "twelve answers")
    good = ledger.close(services.postgres, services.kafka)
    assert good.problems == []
    assert good.accepted == len(ledger.entries) == sum(good.statuses.values())
    assert good.unanswered == good.duplicates == 0
    assert "none" not in good.versions

    lost, changed, twice, unrecorded, refused = (entry for entry in ledger.entries[:5])
    assert lost.request_id
    assert changed.request_id
    with services.connect() as connection:
        connection.execute("DELETE FROM predictions WHERE request_id = %s", (lost.request_id,))
        connection.execute("UPDATE predictions SET model_version = 'x' WHERE request_id = %s", (changed.request_id,))
        problems, _ = ledger._compare_rows(connection)
    assert sorted(problems) == sorted(
        [
            f"{lost.request_id} was accepted and has no row",
            f"{changed.request_id}: the client was told COMPLETED by {changed.model_version}, "
            "the row says COMPLETED by x",
        ]
    )

    ledger.entries = [twice, twice, unrecorded, refused]
    unrecorded.request_id = uuid.uuid4()
    refused.request_id, refused.refused = None, 500
    with services.connect() as connection:
        problems, _ = ledger._compare_rows(connection)
    assert problems == [
        f"{twice.request_id} answers 2 keys",
        f"{refused.key} was answered 500",
        f"{unrecorded.request_id} was accepted and has no row",
    ]


def test_the_first_record_of_a_request_is_the_one_that_counts(services: Services) -> None:
    ledger = Ledger(services.url, per_second=50)
    with ledger.sending():
        eventually(lambda: ledger.answered() >= 3, "three answers")
    entry = ledger.entries[0]
    assert entry.request_id is not None
    producer = ConfirmingProducer(services.kafka.producer("tests", delivery_timeout_ms=10_000))

    def publish(request_id: uuid.UUID) -> None:
        failed = InferenceResult(request_id=request_id, status=Status.FAILED, error=ResultError("/t", "t", "t"))
        headers = event_headers(InferenceResult, "worker", event_id=str(request_id))
        producer.produce(INFERENCE_RESULTS.name, request_id_key(request_id), encode(failed), headers)
        producer.flush()

    publish(entry.request_id)  # after the worker's: done twice, and without effect
    report = ledger.close(services.postgres, services.kafka)
    assert (report.problems, report.duplicates) == ([], 1)
