"""From the log topic into the index: through outages and kills, and against a server that answers wrongly."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from msgspec import Raw
from prometheus_client import CollectorRegistry

from machine_learning_engineering.events import Error, PredictionLogged, encode
from machine_learning_engineering.headers import DeadLetterOrigin, read_origin
from machine_learning_engineering.kafka import client_options, end_offsets, producer_options, read_to_end, topic_name
from machine_learning_engineering.settings import Settings
from machine_learning_engineering.topics import DEAD_LETTERS, LOGS, MEBIBYTE
from monitoring import delivery, search
from monitoring.delivery import Delivery
from monitoring.groups import INDEXER
from monitoring.indexer import Indexer
from monitoring.lag import LagReader
from monitoring.metrics import IndexerMetrics

ACCEPTED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
INDEX = "inference-logs-2026.03.01"


def _log(settings: Settings, number: int | str, features: bytes = b'{"carat":0.5}', **fields: Any) -> PredictionLogged:
    """A log event; its id starts with the test's topic prefix, since all tests of a session share the search node."""
    answer = (
        {} if "error" in fields else {"prediction": Raw(b'{"price":%d.5}' % (number if isinstance(number, int) else 0))}
    )
    known = {
        "request_id": f"{settings.topic_prefix}{number}",
        "model": "diamonds",
        "outcome": "failed" if "error" in fields else "completed",
        "features": Raw(features),
        "requested_at": ACCEPTED,
        "accepted_at": ACCEPTED,
        "completed_at": ACCEPTED,
        "queue_seconds": 0.001,
        "score_seconds": 0.002,
        "total_seconds": 0.003,
        "batch_size": 1,
        "partition": 0,
        "offset": 0,
        "model_version": "1",
    }
    return PredictionLogged(**{**known, **answer, **fields})


def _publish(settings: Settings, *values: bytes | PredictionLogged) -> None:
    producer = Producer(producer_options(settings))
    for value in values:
        if isinstance(value, PredictionLogged):
            producer.produce(
                topic_name(settings, LOGS), encode(value), value.request_id, headers=[("traceparent", b"t")]
            )
        else:
            producer.produce(topic_name(settings, LOGS), value, "key")
        producer.poll(0)
    assert producer.flush(30) == 0


def _eventually(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)


class Running:
    """An indexer in a thread of this process."""

    def __init__(self, settings: Settings, client: Any) -> None:
        self.registry = CollectorRegistry()
        metrics = IndexerMetrics(self.registry)
        self._indexer = Indexer(settings, Delivery(settings, client, metrics), metrics)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.error: BaseException | None = None
        self._thread.start()

    def _run(self) -> None:
        try:
            self._indexer.run(self._stopping)
        except BaseException as error:
            self.error = error

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(40)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error

    def results(self) -> Counter[str]:
        """How many records had which result."""
        assert self.error is None, self.error
        name = "inflight_indexer_documents_total"
        samples = [sample for family in self.registry.collect() for sample in family.samples if sample.name == name]
        return Counter({sample.labels["result"]: int(sample.value) for sample in samples if sample.value})

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@contextmanager
def _running(settings: Settings, *, templates: bool = True) -> Iterator[Running]:
    client = search.connect(settings)
    if templates:
        search.put_templates(client, settings)
    running = Running(settings, client)
    try:
        yield running
    finally:
        running.stop()
        client.close()


def _ids(settings: Settings) -> list[str]:
    client = search.connect(settings)
    try:
        return list(search.indexed_ids(client, settings.topic_prefix))
    finally:
        client.close()


def _document(settings: Settings, number: int | str) -> dict[str, Any]:
    client = search.connect(settings)
    try:
        found: dict[str, Any] = search.call(client, "GET", f"/{INDEX}/_doc/{settings.topic_prefix}{number}")["_source"]
        return found
    finally:
        client.close()


def _letters(settings: Settings) -> list[tuple[DeadLetterOrigin, bytes]]:
    return [(read_origin(letter.headers()), letter.value()) for letter in read_to_end(settings, DEAD_LETTERS)]


def _lag(settings: Settings) -> int:
    return LagReader(settings).read()[INDEXER, LOGS]


# --- on each kind of search node ---


def test_every_log_becomes_one_document(settings: Settings, each_search: Any) -> None:
    """More than one batch of them; reading them again changes nothing."""
    few = settings.model_copy(update={"indexer_batch_records": 100})
    logs = [_log(settings, number) for number in range(1_000)]
    _publish(settings, *logs)
    with _running(few) as running:
        _eventually(lambda: running.results()["created"] == 1_000)
        _publish(settings, *logs[:300])
        _eventually(lambda: running.results()["replayed"] == 300)
        assert running.results() == {"created": 1_000, "replayed": 300}
    assert sorted(_ids(settings)) == sorted(log.request_id for log in logs)
    assert _lag(settings) == 0
    assert _document(settings, 7)["inference"]["prediction"] == {"price": 7.5}


FEATURES_OF_FAILED = [
    b"5",
    b"null",
    b'"text"',
    b"[1, [2]]",
    b"{}",
    b'{"a":' * 500 + b"1" + b"}" * 500,
    b'{"a":"' + b"x" * MEBIBYTE + b'"}',
    b'{"' + b"k" * 40_000 + b'":1}',
    b'{"a":1,"a":2}',
    b'{"a\\u0000":1}',
    b'{"":1,".":2,"a..b":3}',
    b'{"a":1e999}',
    b'{"a":"\xff"}',
    b"[\n1\n]",
]


def test_no_features_make_the_search_node_refuse_a_document(settings: Settings, each_search: Any) -> None:
    """Neither of failed requests, which may be anything, nor of completed ones whose model took them."""
    logs = [
        _log(settings, f"{kind}-{number}", features, **error)
        for number, features in enumerate(FEATURES_OF_FAILED)
        for kind, error in (("failed", {"error": Error("invalid-features", "no")}), ("completed", {}))
    ]
    # The deepest that is still indexed as fields, and the first that is not.
    logs += [_log(settings, f"deep-{depth}", b'{"a":' * depth + b"1" + b"}" * depth) for depth in (19, 20, 21)]
    _publish(settings, *logs)
    with _running(settings) as running:
        _eventually(lambda: running.results().total() == len(logs))
        assert running.results() == {"created": len(logs)}, [origin.message for origin, _ in _letters(settings)]
    assert len(_ids(settings)) == len(logs)
    assert "features" in _document(settings, "deep-20")["inference"]
    assert _document(settings, "failed-6")["inference"]["features_text"].endswith('xx"}')


def test_predictions_of_any_shape_live_in_one_index(settings: Settings, each_search: Any) -> None:
    """An integer first and a fraction later, and the same name with another type in another model."""
    predictions = [
        b'{"y":1}',
        b'{"y":1.5}',
        b'{"y":"high"}',
        b'{"y":true}',
        b'{"y":{"low":0.1,"high":0.9}}',
        b'{"y":[0.1,1]}',
    ]
    _publish(settings, *[_log(settings, number, prediction=Raw(each)) for number, each in enumerate(predictions)])
    with _running(settings) as running:
        _eventually(lambda: running.results().total() == len(predictions))
        assert running.results() == {"created": len(predictions)}


def test_what_can_not_be_indexed_is_set_aside_with_its_bytes(settings: Settings, each_search: Any) -> None:
    """Poison, and a document that the mapping refuses; the records around them are indexed."""
    refused = _log(settings, "refused", prediction=Raw(b"5"))
    poison = [b"", b"not json", b"\xff\xfe\x00", b'{"type":"prediction.completed.v1"}', b"[" * 50_000]
    _publish(settings, _log(settings, 1), *poison, refused, _log(settings, 2))
    with _running(settings) as running:
        _eventually(lambda: running.results().total() == 8)
        assert running.results() == {"created": 2, "undecodable-log": 5, "index-rejected": 1}
    letters = _letters(settings)
    assert sorted(value for _, value in letters) == sorted([*poison, encode(refused)])
    assert {(origin.stage, origin.topic) for origin, _ in letters} == {("index", topic_name(settings, LOGS))}
    assert len({(origin.partition, origin.offset) for origin, _ in letters}) == 6
    (origin,) = [origin for origin, _ in letters if origin.reason == "index-rejected"]
    assert (origin.request_id, origin.model) == (refused.request_id, "diamonds")
    assert "prediction" in origin.message
    assert _lag(settings) == 0


def test_the_first_use_of_an_id_wins_and_another_body_is_set_aside(settings: Settings, each_search: Any) -> None:
    """Whether the first one is in the same batch or was indexed long ago."""
    _publish(settings, _log(settings, 1, b'{"a":1}'), _log(settings, 1, b'{"a":2}'))
    with _running(settings) as running:
        _eventually(lambda: running.results().total() == 2)
        _publish(settings, _log(settings, 1, b'{"a":3}'), _log(settings, 1, b'{ "a": 1 }'))
        _eventually(lambda: running.results().total() == 4)
        assert running.results() == {"created": 1, "replayed": 1, "conflicting-duplicate": 2}
    assert _document(settings, 1)["inference"]["features"] == {"a": 1}
    letters = _letters(settings)
    assert {origin.reason for origin, _ in letters} == {"conflicting-duplicate"}
    assert [json.loads(value)["features"] for _, value in letters] == [{"a": 2}, {"a": 3}]


def test_an_id_that_is_too_long_for_an_index_is_indexed(settings: Settings, each_search: Any) -> None:
    """256 characters are allowed in an id, and Elasticsearch counts bytes."""
    long = settings.topic_prefix + "\N{ROLLER COASTER}" * (256 - len(settings.topic_prefix))
    _publish(settings, _log(settings, 1, request_id=long))
    with _running(settings) as running:
        _eventually(lambda: running.results() == {"created": 1})
    assert _ids(settings) == [long]


def test_a_first_record_that_is_refused_leaves_its_place_to_the_next(settings: Settings, each_search: Any) -> None:
    """In the same batch: only what is indexed can win."""
    refused = _log(settings, 1, b'{"a":1}', prediction=Raw(b"5"))
    _publish(
        settings, refused, _log(settings, 1, b'{"a":2}'), _log(settings, 1, b'{"a":2}'), _log(settings, 1, b'{"a":3}')
    )
    with _running(settings) as running:
        _eventually(lambda: running.results().total() == 4)
        assert running.results() == {"index-rejected": 1, "created": 1, "replayed": 1, "conflicting-duplicate": 1}
    assert _document(settings, 1)["inference"]["features"] == {"a": 2}


# --- outages and kills ---


def _process(settings: Settings, **environment: str) -> subprocess.Popen[bytes]:
    """The indexer as a process of its own."""
    given = {
        "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "INFLIGHT_ELASTICSEARCH_URL": settings.elasticsearch_url,
        "INFLIGHT_TOPIC_PREFIX": settings.topic_prefix,
        "INFLIGHT_HOME": str(settings.home),
        "INFLIGHT_INDEXER_METRICS_PORT": "0",
        "INFLIGHT_INDEXER_BATCH_RECORDS": "100",
        "INFLIGHT_WORKER_SESSION_TIMEOUT": "6",
        **environment,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "monitoring", "indexer"], env={**os.environ, **given}, stderr=subprocess.DEVNULL
    )


def _members(settings: Settings) -> set[str]:
    group = topic_name(settings, INDEXER)
    # Kept in a variable: a client that is collected never answers.
    admin = AdminClient(client_options(settings))
    found = admin.describe_consumer_groups([group])[group].result(10)
    return {member.member_id for member in found.members}


def test_an_outage_of_elasticsearch_loses_nothing(settings: Settings, search: Any) -> None:
    """The indexer waits, in its group and in little memory, and goes on by itself."""
    few = settings.model_copy(update={"indexer_batch_records": 50})
    total = 3_000
    with _running(few) as running:
        try:
            _publish(settings, *[_log(settings, number) for number in range(500)])
            _eventually(lambda: running.results()["created"] >= 100)
            members = _members(settings)
            search.kill()
            _publish(settings, *[_log(settings, number) for number in range(500, total)])
            # Two batches on their way and a full one behind them is all that it takes, however long this lasts.
            _eventually(lambda: running.value("inflight_indexer_in_flight_documents") >= 150)
            until = time.monotonic() + 8
            while time.monotonic() < until:
                assert running.value("inflight_indexer_in_flight_documents") <= 160
                assert running.results()["created"] <= 500
                time.sleep(0.2)
            assert _members(settings) == members
        finally:
            if not search.is_alive():
                search.start()
        _eventually(lambda: running.results()["created"] + running.results()["replayed"] >= total, 120)
        assert _members(settings) == members
        retried = [
            sample.value
            for family in running.registry.collect()
            for sample in family.samples
            if "retries_total" in sample.name
        ]
        assert sum(retried) >= 2
    assert sorted(_ids(settings)) == sorted(f"{settings.topic_prefix}{number}" for number in range(total))
    assert (_letters(settings), _lag(settings)) == ([], 0)


def test_a_killed_indexer_leaves_nothing_out_and_nothing_twice(settings: Settings, search: Any) -> None:
    """kill -9 in the middle, three times."""
    total = 6_000
    _publish(settings, *[_log(settings, number) for number in range(total)])
    for round_ in range(1, 4):
        process = _process(settings)
        try:
            _eventually(lambda enough=round_ * 600: len(_ids(settings)) >= enough)
        finally:
            process.kill()
            process.wait(10)
    process = _process(settings)
    try:
        _eventually(lambda: _lag(settings) == 0)
    finally:
        process.terminate()
        assert process.wait(30) == 0
    assert sorted(_ids(settings)) == sorted(f"{settings.topic_prefix}{number}" for number in range(total))
    assert _letters(settings) == []


def test_sigterm_drains(settings: Settings, search: Any) -> None:
    """It ends by itself, soon, with exit code 0, and what was read is indexed and committed: both or neither."""
    _publish(settings, *[_log(settings, number) for number in range(5_000)])
    process = _process(settings)
    try:
        _eventually(lambda: len(_ids(settings)) >= 300)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
    total = sum(high for _, high in end_offsets(settings, LOGS).values())
    assert total - _lag(settings) == len(_ids(settings)) < total


def test_two_indexers_share_and_take_over(settings: Settings, search: Any) -> None:
    """A second one joins in the middle of the work, and the first one leaves."""
    few = settings.model_copy(update={"indexer_batch_records": 50})
    total = 4_000
    _publish(settings, *[_log(settings, number) for number in range(total)])
    with _running(few) as second_of_two:
        with _running(few) as first:
            _eventually(lambda: first.results().total() + second_of_two.results().total() > 500)
            _eventually(lambda: len(_members(settings)) == 2)
        _eventually(lambda: _lag(settings) == 0)
        both = first.results() + second_of_two.results()
    assert set(both) <= {"created", "replayed"}
    assert sorted(_ids(settings)) == sorted(f"{settings.topic_prefix}{number}" for number in range(total))


# --- a server that answers wrongly, request by request ---

Answer = tuple[int, Any] | None
"""Status and body of a wrong answer; None to answer as Elasticsearch would."""


class WrongServer(ThreadingHTTPServer):
    """Knows `create` and `_mget`; `fault(attempt, ids, bytes)` spoils a bulk request, `item` a document."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.documents: dict[str, Any] = {}
        self.attempts: list[list[str]] = []
        self.fault: Callable[[int, list[str], int], Answer] = lambda _attempt, _ids, _size: None
        self.item: Callable[[int, str], dict[str, Any] | None] = lambda _attempt, _id: None
        self.lock = threading.Lock()

    def bulk(self, body: bytes) -> tuple[int, Any]:
        lines = [json.loads(line) for line in body.splitlines()]
        pairs = [(action["create"]["_id"], document) for action, document in zip(lines[::2], lines[1::2], strict=True)]
        with self.lock:
            attempt = len(self.attempts)
            self.attempts.append([identity for identity, _ in pairs])
            wrong = self.fault(attempt, self.attempts[-1], len(body))
            if wrong is not None:
                return wrong
            items = []
            for identity, document in pairs:
                item = self.item(attempt, identity)
                if item is None:
                    item = {"status": 409 if identity in self.documents else 201}
                    self.documents.setdefault(identity, document)
                items.append({"create": item})
            return 200, {"items": items}


class _Handler(BaseHTTPRequestHandler):
    server: WrongServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path.startswith("/_bulk"):
            status, answer = self.server.bulk(body)
        else:
            found = [(doc["_id"], self.server.documents.get(doc["_id"])) for doc in json.loads(body)["docs"]]
            status, answer = (
                200,
                {"docs": [{"_id": key, "found": doc is not None, "_source": doc} for key, doc in found]},
            )
        if status == 0:
            self.close_connection = True
            return
        text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("x-elastic-product", "Elasticsearch")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_arguments: Any) -> None:
        """Quiet."""


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> Iterator[WrongServer]:
    monkeypatch.setattr(delivery, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(delivery, "LONGEST_WAIT", 0.05)
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
    wrong.fault = lambda attempt, _ids, _size: answer if attempt < 4 else None
    _publish(settings, *[_log(settings, number) for number in range(20)])
    with _running(_at(settings, wrong), templates=False) as running:
        _eventually(lambda: running.results() == {"created": 20})
        assert sum(1 for attempt in wrong.attempts if set(attempt) == set(wrong.attempts[0])) == 5
    assert len(wrong.documents) == 20
    assert (_letters(settings), _lag(settings)) == ([], 0)


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
    _publish(settings, *[_log(settings, number) for number in range(12)])
    with _running(_at(settings, wrong), templates=False) as running:
        _eventually(lambda: running.results() == {"created": 12})
    sent = Counter(identity for attempt in wrong.attempts for identity in attempt)
    assert {identity: times for identity, times in sent.items() if times > 1} == dict.fromkeys(passing, 4)
    assert _letters(settings) == []


def test_a_request_that_is_too_large_is_halved(settings: Settings, wrong: WrongServer) -> None:
    """Until each part fits; what does not fit alone is set aside."""
    limit = 3_000
    wrong.fault = lambda _attempt, _ids, size: (413, b"") if size > limit else None
    big = _log(settings, "big", b'{"a":"' + b"x" * limit + b'"}')
    _publish(settings, *[_log(settings, number) for number in range(16)], big)
    with _running(_at(settings, wrong), templates=False) as running:
        _eventually(lambda: running.results().total() == 17)
        assert running.results() == {"created": 16, "index-rejected": 1}
    ((origin, value),) = _letters(settings)
    assert (value, origin.request_id) == (encode(big), big.request_id)
    assert "413" in origin.message


def test_a_record_that_spoils_a_whole_request_is_found(settings: Settings, wrong: WrongServer) -> None:
    """Elasticsearch answers some faults of one document with a refusal of all."""
    bad = f"{settings.topic_prefix}11"
    wrong.fault = lambda _attempt, ids, _size: (
        (400, {"error": {"type": "spoilt", "reason": "why"}}) if bad in ids else None
    )
    _publish(settings, *[_log(settings, number) for number in range(20)])
    with _running(_at(settings, wrong), templates=False) as running:
        _eventually(lambda: running.results().total() == 20)
        assert running.results() == {"created": 19, "index-rejected": 1}
    assert [origin.request_id for origin, _ in _letters(settings)] == [bad]


def test_an_answer_that_got_lost_is_no_conflict(settings: Settings, wrong: WrongServer) -> None:
    """Elasticsearch has the documents, but the indexer was not told: sent again, they are replays."""

    def lose_the_answer(attempt: int, ids: list[str], _size: int) -> Answer:
        if attempt > 0:
            return None
        wrong.documents.update({identity: _as_document(settings, identity) for identity in ids})
        return 0, None

    wrong.fault = lose_the_answer
    _publish(settings, *[_log(settings, number) for number in range(10)])
    with _running(_at(settings, wrong), templates=False) as running:
        _eventually(lambda: running.results().total() == 10)
        assert set(running.results()) <= {"created", "replayed"}
        assert running.results()["replayed"] == len(wrong.attempts[0])
    assert _letters(settings) == []


def _as_document(settings: Settings, identity: str) -> Any:
    from monitoring.documents import to_document

    return json.loads(to_document(_log(settings, int(identity.removeprefix(settings.topic_prefix)))))


def test_a_server_that_never_answers_does_not_keep_the_indexer_from_ending(
    settings: Settings, wrong: WrongServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives up draining after a while, and what it has not committed is there for the next one."""
    monkeypatch.setattr("monitoring.indexer.DRAIN_SECONDS", 0.5)
    wrong.fault = lambda _attempt, _ids, _size: (503, b"")
    _publish(settings, *[_log(settings, number) for number in range(10)])
    with _running(_at(settings, wrong), templates=False):
        _eventually(lambda: len(wrong.attempts) > 3)
        before = time.monotonic()
    assert time.monotonic() - before < 10
    assert _lag(settings) == 10
    wrong.fault = lambda _attempt, _ids, _size: None
    with _running(_at(settings, wrong), templates=False) as running:
        _eventually(lambda: running.results() == {"created": 10})
