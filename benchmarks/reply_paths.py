"""What it costs to bring results back to gateways: `python -m benchmarks.reply_paths`.

Two ways are compared on a broker of its own. Each gateway reads all results and drops those of others; or workers write
a third record, a reply, for each request. Figures are CPU time of this process, clients' threads included.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from inflight.settings import Settings
from inflight.stack.kafka import KafkaNode
from machine_learning_engineering.events.headers import FINGERPRINT
from machine_learning_engineering.events.topics import LOGS, RESULTS
from machine_learning_engineering.kafka.client import client_options, consumer_options, create_topics, producer_options
from producers.gateway.recall import decode_view
from producers.gateway.settings import GatewaySettings
from producers.gateway.tail import Tail

RECORDS = 200_000
ROUNDS = 3
REPLIES = "replies"
TRACE = ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")


def result(number: int) -> bytes:
    return msgspec.json.encode(
        {
            "type": "prediction.completed.v1",
            "request_id": f"0197a5c2f0a1b2c3d4e5f6-{number:08d}",
            "model": "diamonds",
            "model_version": "v3",
            "prediction": {"price": 326.5 + number},
            "requested_at": "2026-01-02T03:04:05.678000Z",
            "completed_at": "2026-01-02T03:04:05.690000Z",
        }
    )


def cpu_of(action: Callable[[], None]) -> tuple[float, float]:
    """CPU seconds and seconds of an action."""
    cpu, wall = time.process_time(), time.perf_counter()
    action()
    return time.process_time() - cpu, time.perf_counter() - wall


def produce(settings: Settings, topics: tuple[str, ...], headers: list[tuple[str, bytes]] | None) -> None:
    """Write one record for each request to each topic, as a worker does."""
    producer = Producer({**producer_options(settings), "linger.ms": 0, "delivery.report.only.error": True})
    values = [result(number) for number in range(1_000)]
    for start in range(0, RECORDS, 4_096):
        for topic in topics:
            for number in range(start, min(start + 4_096, RECORDS)):
                value = values[number % 1_000]
                producer.produce(topic, value, value[46:80], number % 4, headers=headers)
        assert producer.flush(60) == 0


def consume(settings: Settings, each: Callable[[Any], object]) -> None:
    """Read all results, and look at each as a gateway does."""
    consumer = Consumer({**consumer_options(settings, "bench"), "queued.max.messages.kbytes": 16 * 1024})
    consumer.assign([TopicPartition(RESULTS, partition, 0) for partition in range(4)])
    seen = 0
    while seen < RECORDS:
        for message in consumer.consume(1_000, 0.2):
            if message.error() is None:
                each(message)
                seen += 1
    consumer.close()


def report(what: str, measured: list[tuple[float, float]]) -> None:
    cpu, wall = (sorted(values)[len(values) // 2] for values in zip(*measured, strict=True))
    print(f"{what:<60} {cpu / RECORDS * 1e6:6.2f} us CPU a record, {RECORDS / wall:9,.0f} records/s")


def main() -> None:
    """Start a broker, measure both ways, and print."""
    with tempfile.TemporaryDirectory() as folder:
        node = KafkaNode(Path(folder) / "kafka")
        node.start()
        try:
            _measure(node.bootstrap_servers, Path(folder))
        finally:
            node.stop()


def _measure(servers: str, folder: Path) -> None:
    settings = GatewaySettings(_env_file=None, home=folder, kafka_bootstrap_servers=servers)  # type: ignore[call-arg]
    for what, headers in (("without headers", None), ("with a traceparent", [TRACE])):
        _measure_with(settings, what, headers)
    print(f"(gateways find their own by the header {FINGERPRINT})")


def _measure_with(settings: GatewaySettings, what: str, headers: list[tuple[str, bytes]] | None) -> None:
    admin = AdminClient(client_options(settings))
    create_topics(settings)
    for future in admin.create_topics([NewTopic(REPLIES, 4, 1)]).values():
        future.result()
    time.sleep(1)

    def rounds(action: Callable[[], None]) -> list[tuple[float, float]]:
        return [cpu_of(action) for _ in range(ROUNDS)]

    two, three = (RESULTS, LOGS), (RESULTS, LOGS, REPLIES)
    report(f"worker: results and logs, {what}", rounds(lambda: produce(settings, two, headers)))
    report(f"worker: results, logs and replies, {what}", rounds(lambda: produce(settings, three, headers)))
    tail = Tail(settings, lambda found: None, lambda problem: None)
    report(f"gateway: look at a result of others, {what}", rounds(lambda: consume(settings, tail._seen)))
    decode = rounds(lambda: consume(settings, lambda one: decode_view(one.value())))
    report(f"gateway: decode its request id, {what}", decode)
    tail.close(5)
    for future in admin.delete_topics([RESULTS, LOGS, REPLIES]).values():
        future.result()
    time.sleep(2)


if __name__ == "__main__":
    main()
