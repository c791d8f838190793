"""The way of the workers to a live model, in a sentence; how old things are and what metrics are called."""

from datetime import UTC, datetime, timedelta

import pytest

from ui.api_client import Worker
from ui.changeover import Changeover
from ui.formatting import age
from ui.model_charts import metric_name

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
LIVE, OLD = "sasrec-new", "sasrec-old"


def worker(name: str, serves: str | None, state: str = "loaded", announced: str | None = LIVE) -> Worker:
    return Worker(name, state, True, serves, announced)


def test_all_serve_it() -> None:
    change = Changeover.towards(LIVE, [worker("a", LIVE), worker("b", LIVE)])
    assert change.sentence() == f"All 2 workers serve `{LIVE}`."
    assert Changeover.towards(LIVE, [worker("a", LIVE)]).sentence() == f"The one worker that runs serves `{LIVE}`."


def test_some_are_on_their_way() -> None:
    # b has not even heard of it, c has heard and loads.
    workers = [worker("a", LIVE), worker("b", OLD, announced=OLD), worker("c", OLD, state="starting")]
    change = Changeover.towards(LIVE, workers)
    assert [each.worker_id for each in change.waiting] == ["b", "c"]
    assert change.sentence() == f"Changing over: 1 of 3 workers serve `{LIVE}`."


def test_one_refused_it() -> None:
    change = Changeover.towards(LIVE, [worker("a", LIVE), worker("b", OLD, state="rejected")])
    assert [each.worker_id for each in change.rejected] == ["b"]
    assert change.waiting == []
    assert "1 of 2 workers" in change.sentence()
    assert "refused" in change.sentence()


def test_an_earlier_refusal_says_nothing_of_this_one() -> None:
    change = Changeover.towards(LIVE, [worker("a", OLD, state="rejected", announced="sasrec-broken")])
    assert change.rejected == []
    assert [each.worker_id for each in change.waiting] == ["a"]


def test_silent_workers_do_not_count() -> None:
    silent = Worker("a", "loaded", False, OLD)
    assert Changeover.towards(LIVE, [silent]).sentence().startswith("No worker is running")
    assert Changeover.towards(LIVE, [silent, worker("b", LIVE)]).alive == 1


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(seconds=-5), "0 seconds ago"),
        (timedelta(seconds=1), "1 second ago"),
        (timedelta(seconds=119), "1 minute ago"),
        (timedelta(hours=23, minutes=59), "23 hours ago"),
        (timedelta(days=9), "9 days ago"),
    ],
)
def test_ages_are_in_their_largest_unit(ago: timedelta, text: str) -> None:
    assert age(NOW - ago, NOW) == text


def test_metrics_are_written_as_people_write_them() -> None:
    assert [metric_name(name) for name in ("ndcg@10", "recall@5", "mrr@10")] == ["NDCG@10", "Recall@5", "MRR@10"]
