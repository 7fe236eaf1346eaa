"""The indexer against a server that answers wrongly."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

import monitoring.indexer.process
from inflight.settings import Settings
from machine_learning_engineering.events.schemas import ModelPromoted, encode
from machine_learning_engineering.events.topics import DEAD_LETTERS, MODEL_EVENTS
from monitoring.documents.log import to_document
from monitoring.runtime import retry as outages
from tests.support.indexing import eventually, indexer, lag, letters, log, publish
from tests.support.wrong_server import Answer, WrongServer


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> Iterator[WrongServer]:
    monkeypatch.setattr(outages, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(outages, "LONGEST_WAIT", 0.05)
    with WrongServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def _at(settings: Settings, wrong: WrongServer) -> Settings:
    return settings.model_copy(update={"elasticsearch_url": f"http://127.0.0.1:{wrong.server_port}"})


@pytest.mark.parametrize(
    "answer",
    [
        (429, {"error": {"type": "es_rejected_execution_exception", "reason": "full"}, "status": 429}),
        (500, b"oops"),
        (502, b"<html>bad gateway</html>"),
        (503, {"error": "unavailable"}),
        (401, {"error": "who are you"}),
        (404, {"error": {"type": "index_not_found_exception"}}),
        (200, {"hello": "I am a proxy"}),
        (200, b"not json"),
        (200, {"items": []}),
        (0, None),
    ],
)
def test_a_wrong_answer_to_a_request_is_tried_again(
    settings: Settings, wrong: WrongServer, answer: tuple[int, Any]
) -> None:
    """As often as it takes, the same documents each time, and then never again."""
    tries: Counter[frozenset[str]] = Counter()

    def four_times(_attempt: int, ids: list[str], _size: int) -> Answer:
        tries[frozenset(ids)] += 1
        return answer if tries[frozenset(ids)] <= 4 else None

    wrong.fault = four_times
    publish(settings, *[log(settings, number) for number in range(20)])
    with indexer(_at(settings, wrong), templates=False) as running:
        eventually(lambda: running.results() == {"created": 20})
    # One request, or a few: each document is in one of them.
    assert set(tries.values()) == {5}
    assert sum(map(len, tries)) == len(frozenset[str]().union(*tries)) == len(wrong.documents) == 20
    assert (letters(settings), lag(settings)) == ([], 0)


def test_only_the_items_that_failed_are_tried_again(settings: Settings, wrong: WrongServer) -> None:
    """Full queues, a blocked index, a cluster without room for an index; the others are sent once."""
    passing = {
        f"{settings.topic_prefix}3": {
            "status": 429,
            "error": {"type": "es_rejected_execution_exception", "reason": "full"},
        },
        f"{settings.topic_prefix}5": {
            "status": 503,
            "error": {"type": "unavailable_shards_exception", "reason": "none"},
        },
        f"{settings.topic_prefix}7": {
            "status": 403,
            "error": {"type": "cluster_block_exception", "reason": "read only"},
        },
        f"{settings.topic_prefix}9": {
            "status": 400,
            "error": {"type": "validation_exception", "reason": "too many shards"},
        },
    }
    seen: Counter[str] = Counter()

    def item(_attempt: int, identity: str) -> dict[str, Any] | None:
        seen[identity] += 1
        return passing.get(identity) if seen[identity] <= 3 else None

    wrong.item = item
    publish(settings, *[log(settings, number) for number in range(12)])
    with indexer(_at(settings, wrong), templates=False) as running:
        eventually(lambda: running.results() == {"created": 12})
    sent = Counter(identity for attempt in wrong.attempts for identity in attempt)
    assert {identity: times for identity, times in sent.items() if times > 1} == dict.fromkeys(passing, 4)
    assert letters(settings) == []


def test_a_request_that_is_too_large_is_halved(settings: Settings, wrong: WrongServer) -> None:
    """Until each part fits; what does not fit alone is set aside."""
    limit = 3_000
    wrong.fault = lambda _attempt, _ids, size: (413, b"") if size > limit else None
    big = log(settings, "big", b'{"a":"' + b"x" * limit + b'"}')
    publish(settings, *[log(settings, number) for number in range(16)], big)
    with indexer(_at(settings, wrong), templates=False) as running:
        eventually(lambda: running.results().total() == 17)
        assert running.results() == {"created": 16, "index_rejected": 1}
    ((origin, value),) = letters(settings)
    assert (value, origin.request_id) == (encode(big), big.request_id)
    assert "413" in origin.message


def test_a_record_that_spoils_a_whole_request_is_found(settings: Settings, wrong: WrongServer) -> None:
    """Elasticsearch answers some faults of one document with a refusal of all."""
    bad = f"{settings.topic_prefix}11"
    wrong.fault = lambda _attempt, ids, _size: (
        (400, {"error": {"type": "spoilt", "reason": "why"}}) if bad in ids else None
    )
    publish(settings, *[log(settings, number) for number in range(20)])
    with indexer(_at(settings, wrong), templates=False) as running:
        eventually(lambda: running.results().total() == 20)
        assert running.results() == {"created": 19, "index_rejected": 1}
    assert [origin.request_id for origin, _ in letters(settings)] == [bad]


def test_a_server_that_refuses_everything_makes_no_endless_loop(settings: Settings, wrong: WrongServer) -> None:
    """Each log is one dead letter; the document of that dead letter is refused too, and that is the end of it."""
    wrong.item = lambda _attempt, _id: {
        "status": 400,
        "error": {"type": "document_parsing_exception", "reason": "no. Preview of field's value: 'secret'"},
    }
    publish(settings, *[log(settings, number) for number in range(10)])
    with indexer(_at(settings, wrong), templates=False) as running:
        eventually(lambda: lag(settings) == lag(settings, DEAD_LETTERS) == 0 and running.results().total() == 10)
        assert running.results() == {"index_rejected": 10}
        assert running.results(DEAD_LETTERS) == {"index_rejected": 10}
    found = letters(settings)
    assert len(found) == 10
    assert not any("secret" in origin.message for origin, _ in found)


def test_an_answer_that_got_lost_is_no_conflict(settings: Settings, wrong: WrongServer) -> None:
    """Elasticsearch has the documents, but the indexer was not told: sent again, they are replays."""

    def lose_the_answer(attempt: int, ids: list[str], _size: int) -> Answer:
        if attempt > 0:
            return None
        wrong.documents.update({identity: _as_document(settings, identity) for identity in ids})
        return 0, None

    wrong.fault = lose_the_answer
    publish(settings, *[log(settings, number) for number in range(10)])
    with indexer(_at(settings, wrong), templates=False) as running:
        eventually(lambda: running.results().total() == 10)
        assert set(running.results()) <= {"created", "replayed"}
        assert running.results()["replayed"] == len(wrong.attempts[0])
    assert letters(settings) == []


def _as_document(settings: Settings, identity: str) -> Any:
    return json.loads(to_document(log(settings, int(identity.removeprefix(settings.topic_prefix)))))


def test_a_server_that_never_answers_does_not_keep_the_indexer_from_ending(
    settings: Settings, wrong: WrongServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives up draining after a while, and what it has not committed is there for the next one."""
    patience = monitoring.indexer.process.DRAIN_SECONDS
    monkeypatch.setattr(monitoring.indexer.process, "DRAIN_SECONDS", 0.5)
    wrong.fault = lambda _attempt, _ids, _size: (503, b"")
    publish(settings, *[log(settings, number) for number in range(10)])
    with indexer(_at(settings, wrong), templates=False):
        eventually(lambda: len(wrong.attempts) > 3)
        before = time.monotonic()
    assert time.monotonic() - before < patience
    assert lag(settings) == 10
    wrong.fault = lambda _attempt, _ids, _size: None
    with indexer(_at(settings, wrong), templates=False) as running:
        eventually(lambda: running.results() == {"created": 10})


@pytest.mark.parametrize("body", [b"<html>The plain HTTP request was sent to HTTPS port</html>", {"message": "no"}])
def test_a_proxy_that_answers_400_makes_no_dead_letters(settings: Settings, wrong: WrongServer, body: Any) -> None:
    """It knows nothing of our records: they are sent again until Elasticsearch answers."""
    wrong.fault = lambda attempt, _ids, _size: (400, body) if attempt < 8 else None
    publish(settings, *[log(settings, number) for number in range(20)])
    with indexer(_at(settings, wrong), templates=False) as running:
        eventually(lambda: running.results() == {"created": 20})
    assert letters(settings) == []


def test_a_topic_that_can_not_be_indexed_stops_no_other(settings: Settings, wrong: WrongServer) -> None:
    """More of it than is held in memory; and it is made up for once it can be."""
    refusal = {"status": 400, "error": {"type": "validation_exception", "reason": "too many shards"}}
    wrong.item = lambda _attempt, identity: None if identity.startswith(settings.topic_prefix) else refusal
    small = _at(settings, wrong).model_copy(update={"elasticsearch_batch_records": 5})
    events = [ModelPromoted("m", f"v{number}", datetime.now(UTC), "because") for number in range(60)]
    publish(settings, *events, topic=MODEL_EVENTS)
    with indexer(small, templates=False) as running:
        eventually(lambda: running.value("inflight_indexer_in_flight_documents") >= 15)
        publish(settings, *[log(settings, number) for number in range(40)])
        eventually(lambda: running.results() == {"created": 40})
        assert running.results(MODEL_EVENTS) == {}
        wrong.item = lambda _attempt, _identity: None
        eventually(lambda: running.results(MODEL_EVENTS) == {"created": 60})
    assert lag(settings) == lag(settings, MODEL_EVENTS) == 0
