"""Kafka and Elasticsearch of our own with a backlog of logs, in a temporary folder that is removed."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path

from confluent_kafka import Producer
from msgspec import Raw

from benchmarks.deployment import EvaluationError
from benchmarks.machine import Cores, pin, share_cores
from inflight.settings import Settings
from inflight.stack.elasticsearch import ELASTICSEARCH_VERSION, ElasticsearchNode
from inflight.stack.kafka import KAFKA_VERSION, KafkaNode
from inflight.stack.maven import missing_tools
from inflight.stack.process import StackError
from machine_learning_engineering.events.schemas import PredictionLogged, encode
from machine_learning_engineering.events.topics import LOGS
from machine_learning_engineering.kafka.client import create_topics, producer_options, topic_name
from model.diamonds.model import Diamonds
from monitoring.elastic import client as elastic
from monitoring.elastic import templates

_ACCEPTED = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Stack:
    """A running broker and search node, and the settings of everything on them."""

    settings: Settings
    cores: Cores
    versions: str

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find all this."""
        settings = self.settings
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("INFLIGHT_")},
            "INFLIGHT_HOME": str(settings.home),
            "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "INFLIGHT_ELASTICSEARCH_URL": settings.elasticsearch_url,
            "INFLIGHT_TOPIC_PREFIX": settings.topic_prefix,
            "INFLIGHT_INDEXER_METRICS_PORT": "0",
        }


@contextlib.contextmanager
def deploy() -> Iterator[Stack]:
    """Kafka and Elasticsearch with topics and templates; all of it is gone at the end.

    Raises:
        EvaluationError: Java or Maven is missing, or a node does not start.
    """

    if missing := missing_tools():
        raise EvaluationError(f"{' and '.join(missing)} is not on PATH: install Java 17 and Maven")
    cores = share_cores()
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    with tempfile.TemporaryDirectory(prefix="inflight-bench-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        # Elasticsearch runs as another user.
        home.chmod(0o755)
        broker, node = KafkaNode(home / "kafka"), ElasticsearchNode(home / "elasticsearch")
        try:
            pin(cores.rest)
            broker.start()
            node.start()
            settings = Settings(
                _env_file=None,  # type: ignore[call-arg]
                home=home,
                kafka_bootstrap_servers=broker.bootstrap_servers,
                elasticsearch_url=node.url,
                topic_prefix="bench-",
            )
            create_topics(settings)
            with elastic.connect(settings) as client:
                templates.put_templates(client, settings)
            yield Stack(settings, cores, f"Apache Kafka {KAFKA_VERSION}, Elasticsearch {ELASTICSEARCH_VERSION}")
        except StackError as error:
            raise EvaluationError(str(error)) from error
        finally:
            node.stop()
            broker.stop()
            pin(before)


def fill(stack: Stack, count: int) -> float:
    """Publish so many logs, as a worker writes them; the mean of their bytes.

    Raises:
        EvaluationError: a log could not be published.
    """

    producer = Producer({**producer_options(stack.settings), "linger.ms": 20})
    topic, written = topic_name(stack.settings, LOGS), 0
    rows = [Raw(encode(features)) for features in Diamonds.example_requests()]
    for number, features in enumerate(islice(cycle(rows), count)):
        event = PredictionLogged(
            request_id=f"diamond-{number:012d}",
            model="diamonds",
            outcome="completed",
            features=features,
            requested_at=_ACCEPTED,
            accepted_at=_ACCEPTED,
            completed_at=_ACCEPTED,
            queue_seconds=0.0012345,
            score_seconds=0.0067891,
            total_seconds=0.0080236,
            batch_size=512,
            partition=number % 4,
            offset=number // 4,
            model_version="20260101-120000-abcdef",
            prediction=Raw(b'{"price":%d.%d}' % (300 + number % 18_000, number % 1_000)),
            traceparent=f"00-{number:032x}-{number:016x}-01",
        )
        value = encode(event)
        written += len(value)
        while True:
            try:
                producer.produce(topic, value, event.request_id)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if missing := producer.flush(60):
        raise EvaluationError(f"{missing} of {count} logs were not published")
    return written / count
