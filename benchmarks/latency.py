"""End-to-end latency: from the producer's send to the moment a consumer has the answer, evenly paced, one clock."""

import threading
import time
import uuid
from collections.abc import Sequence

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from benchmarks.cases.catalog import Case
from benchmarks.deployment import Deployment, EvaluationError, request_bodies
from benchmarks.subject import Subject, running
from machine_learning_engineering.events.topics import REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import consumer_options, producer_options, topic_name
from machine_learning_engineering.kafka.idle import IdlePausingConsumer
from machine_learning_engineering.settings import KernelSettings
from producers.rate_limiter import RateLimiter

WARM_UP_REQUESTS = 1_000
START_SECONDS = 60.0
ANSWER_SECONDS = 10.0


class Latency(msgspec.Struct, frozen=True):
    """Seconds from send to answer of `requests` requests, of which `unanswered` got none."""

    case: str
    rate: float
    requests: int
    unanswered: int
    p50: float
    p90: float
    p99: float
    p999: float
    maximum: float


class Arrivals(threading.Thread):
    """Notes when each answer is seen, by its key."""

    def __init__(self, settings: KernelSettings) -> None:
        super().__init__(name="arrivals", daemon=True)
        self.at: dict[bytes, float] = {}
        self._arrived = threading.Condition()
        self._stopping = threading.Event()
        self._consumer = Consumer(consumer_options(settings, f"bench-arrivals-{time.time_ns()}"))
        topic = topic_name(settings, RESULTS)
        self._consumer.assign([TopicPartition(topic, number, 0) for number in range(settings.topic_partitions)])
        self._fetch = IdlePausingConsumer(self._consumer, settings.kafka_idle_pause)

    def run(self) -> None:
        """Consume until stopped. (Called by the thread.)"""
        while not self._stopping.is_set():
            for message in self._fetch.consume(1, 0.05):
                if message.error() is None:
                    with self._arrived:
                        self.at.setdefault(message.key(), time.monotonic())
                        self._arrived.notify_all()
                elif message.error().code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(message.error())
        self._consumer.close()

    def wait_for(self, key: bytes, timeout: float) -> bool:
        """Wait until the answer with this key is there; whether it is."""
        with self._arrived:
            return self._arrived.wait_for(lambda: key in self.at, max(0.0, timeout))

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self.join()


def measure(name: str, case: Case, base: Deployment, *, rate: float, requests: int) -> Latency:
    """The latency of a case that has nothing else to do.

    Raises:
        EvaluationError: the case does not answer at all.
    """
    deployment = base.with_prefix(f"latency-{name}-{uuid.uuid4().hex[:6]}-")
    topic = topic_name(deployment.settings, REQUESTS)
    bodies = list(request_bodies(WARM_UP_REQUESTS + requests))
    # Not idempotent: librdkafka's spins while five records of a partition are under way, and would measure itself.
    producer = Producer({**producer_options(deployment.settings), "enable.idempotence": False, "linger.ms": 0})
    arrivals = Arrivals(deployment.settings)
    arrivals.start()
    sent: dict[bytes, float] = {}
    try:
        with running(case, deployment, f"{deployment.settings.topic_prefix}bench") as subject:
            _wait_until_it_answers(subject, producer, topic, arrivals)
            pace = RateLimiter(rate)
            for key, value in bodies:
                pace.wait()
                sent[key] = time.monotonic()
                producer.produce(topic, value, key)
                producer.poll(0)
            deadline = time.monotonic() + ANSWER_SECONDS
            while not sent.keys() <= arrivals.at.keys() and time.monotonic() < deadline:
                time.sleep(0.05)
    finally:
        arrivals.stop()
    measured = [key for key, _ in bodies[WARM_UP_REQUESTS:]]
    seconds = [arrivals.at[key] - sent[key] for key in measured if key in arrivals.at]
    return summary(name, rate, seconds, unanswered=len(measured) - len(seconds))


def summary(name: str, rate: float, seconds: Sequence[float], *, unanswered: int) -> Latency:
    """The quantiles of some latencies. An unanswered request counts as endless."""
    ordered = sorted(seconds) + [float("inf")] * unanswered

    def quantile(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return Latency(
        case=name,
        rate=rate,
        requests=len(ordered),
        unanswered=unanswered,
        p50=quantile(0.5),
        p90=quantile(0.9),
        p99=quantile(0.99),
        p999=quantile(0.999),
        maximum=ordered[-1],
    )


def _wait_until_it_answers(subject: Subject, producer: Producer, topic: str, arrivals: Arrivals) -> None:
    """One request to each partition, at the start: the case is there when all are answered."""
    values = list(request_bodies(4))
    keys = [b"ready-%d" % number for number in range(4)]
    for number, (key, (old, value)) in enumerate(zip(keys, values, strict=True)):
        producer.produce(topic, value.replace(old, key), key, partition=number)
    producer.flush(10)
    deadline = time.monotonic() + START_SECONDS
    while not all(key in arrivals.at for key in keys):
        subject.check()
        if time.monotonic() > deadline:
            raise EvaluationError(f"no answer within {START_SECONDS:.0f} s of the start")
        time.sleep(0.05)
