"""An indexer in this process over the topics of one test, and what it is given and leaves behind."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
from confluent_kafka import KafkaException, Producer
from elasticsearch import BadRequestError
from msgspec import Raw
from prometheus_client import CollectorRegistry

from inflight.settings import Settings
from machine_learning_engineering.dead_letters.letter import DeadLetterOrigin, read_origin
from machine_learning_engineering.events.schemas import PredictionLogged, encode
from machine_learning_engineering.events.topics import DEAD_LETTERS, LOGS
from machine_learning_engineering.kafka.client import producer_options, read_to_end, topic_name
from monitoring.elastic import client as elastic
from monitoring.elastic import scan
from monitoring.elastic.templates import put_templates
from monitoring.exporter.lag import LagReader
from monitoring.indexer.delivery import Delivery
from monitoring.indexer.metrics import IndexerMetrics
from monitoring.indexer.process import Indexer
from monitoring.runtime.groups import INDEXER

ACCEPTED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
INDEX = "inference-logs-2026.03.01"


def log(settings: Settings, number: int | str, features: bytes = b'{"carat":0.5}', **fields: Any) -> PredictionLogged:
    """A log event; its id starts with the test's topic prefix, since all tests of a session share Elasticsearch."""
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


def refused_log(settings: Settings, number: int | str, features: bytes = b'{"carat":0.5}') -> PredictionLogged:
    """A log event that each kind of node refuses: the index has a number of our own where the prediction has a text.

    Everything that a prediction may be is indexed; only a mapping that somebody changed refuses one.
    """
    client = elastic.connect(settings)
    try:
        put_templates(client, settings)
        with contextlib.suppress(BadRequestError):
            elastic.request(client, "PUT", f"/{INDEX}")
        of_our_own = {"prediction": {"properties": {"refused": {"type": "long"}}}}
        mapping = {"properties": {"inflight": {"properties": of_our_own}}}
        elastic.request(client, "PUT", f"/{INDEX}/_mapping", mapping)
    finally:
        client.close()
    return log(settings, number, features, prediction=Raw(b'{"refused":"text"}'))


def publish(settings: Settings, *values: bytes | msgspec.Struct, topic: str = LOGS) -> None:
    """Events, or bytes that are none, each with its key."""
    producer = Producer(producer_options(settings))
    for value in values:
        if isinstance(value, bytes):
            producer.produce(topic_name(settings, topic), value, "key")
        else:
            key = value.request_id if isinstance(value, PredictionLogged) else getattr(value, "model", None)
            producer.produce(topic_name(settings, topic), encode(value), key, headers=[("traceparent", b"t")])
        producer.poll(0)
    assert producer.flush(120) == 0


def eventually(condition: Callable[[], Any], seconds: float = 300.0) -> None:
    """Wait until it is true; a broker that has no coordinator for a group yet counts as no."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(KafkaException):
            if condition():
                return
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
        self._thread.join(300)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error

    def results(self, topic: str = LOGS) -> Counter[str]:
        """How many documents of a topic had which result."""
        assert self.error is None, self.error
        name = "inflight_indexer_documents_total"
        samples = [sample for family in self.registry.collect() for sample in family.samples if sample.name == name]
        samples = [sample for sample in samples if sample.labels["topic"] == topic]
        return Counter({sample.labels["result"]: int(sample.value) for sample in samples if sample.value})

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@contextlib.contextmanager
def indexer(settings: Settings, *, templates: bool = True) -> Iterator[Running]:
    client = elastic.connect(settings)
    if templates:
        put_templates(client, settings)
    running = Running(settings, client)
    try:
        yield running
    finally:
        running.stop()
        client.close()


def ids(settings: Settings) -> list[str]:
    client = elastic.connect(settings)
    try:
        return list(scan.indexed_ids(client, settings.topic_prefix))
    finally:
        client.close()


def document(settings: Settings, number: int | str) -> dict[str, Any]:
    client = elastic.connect(settings)
    try:
        found: dict[str, Any] = elastic.request(client, "GET", f"/{INDEX}/_doc/{settings.topic_prefix}{number}")[
            "_source"
        ]
        return found
    finally:
        client.close()


def letters(settings: Settings) -> list[tuple[DeadLetterOrigin, bytes]]:
    return [(read_origin(letter.headers()), letter.value()) for letter in read_to_end(settings, DEAD_LETTERS)]


def lag(settings: Settings, topic: str = LOGS) -> int:
    return LagReader(settings).read()[INDEXER, topic]
