"""What a rollout costs: `python -m benchmarks.rollouts`.

The canary is measured in the scorer, with a model that costs nothing: what is compared is the CPU time of reading,
splitting and writing the outcomes of a batch, with and without a rollout. The shadow is measured with diamonds on a
broker of its own: the CPU time of this process, its Kafka client and the child together, against that of decoding and
predicting the same batches a second time right here.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import psutil
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message
from msgspec import Raw
from prometheus_client import CollectorRegistry

from inflight.settings import Settings
from inflight.stack.kafka import KafkaNode
from machine_learning_engineering.core.predict import predict_or_bisect
from machine_learning_engineering.core.threads import cap_numeric_threads
from machine_learning_engineering.events.schemas import PredictionRequested
from machine_learning_engineering.events.topics import SHADOWS
from machine_learning_engineering.kafka.client import create_topics, producer_options, topic_name
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.rollout.policy import RolloutPolicy
from machine_learning_engineering.rollout.record import Rollout, Stage
from machine_learning_engineering.rollout.split import Splitter
from model.catalog import available
from stream_app.serving.arms import Arms, ShadowBatch, ShadowPlan, roles
from stream_app.serving.batch import TP, PartitionBatch
from stream_app.serving.outcomes import OutputTopics, PendingRequest, ScoredBatch
from stream_app.serving.scorer import Scorer
from stream_app.shadow.metrics import ShadowMetrics
from stream_app.shadow.process import ShadowProcess
from stream_app.shadow.producer import ShadowProducer
from stream_app.shadow.scoring import Shadows

RECORDS = 4_096
CUSTOMERS = 2_000
ROUNDS = 60
BATCHES = 12
TOPICS = OutputTopics("results", "logs", "dead-letters")
NOW = datetime(2026, 1, 2, tzinfo=UTC)


class _Number(msgspec.Struct):
    n: int


class _Free:
    """A model that costs next to nothing."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.decode = msgspec.json.Decoder(_Number).decode

    def predict(self, rows: Any) -> list[int]:
        return [row.n for row in rows]


def rollout(stage: Stage, percent: int) -> Rollout:
    return Rollout(
        rollout_id="9f1c2a7b",
        model="free",
        champion="v1",
        challenger="v2",
        salt="5f3c9a01d2e4b687",
        stage=stage,
        percent=percent,
        policy=RolloutPolicy(),
        started_at=NOW,
        stage_at=NOW,
    )


def batch(model: str, features: Iterator[bytes], key: Callable[[int], bytes | None]) -> PartitionBatch:
    records = [
        Message(
            topic="requests",
            partition=0,
            offset=number,
            key=key(number),
            value=b'{"request_id":"0198c0de-%08d","model":"%b","features":%b}' % (number, model.encode(), one),
            timestamp=(TIMESTAMP_LOG_APPEND_TIME, 1_000_000),
        )
        for number, one in enumerate(features)
    ]
    return PartitionBatch(TP("requests", 0), 0, len(records), list(records), 0)


def measure_canary() -> None:
    """Rounds alternate; the least CPU time of a record in each way."""
    models = {"v1": _Free("v1"), "v2": _Free("v2")}
    one = rollout("canary", 50)
    found = roles(one, "v1")
    assert found is not None
    ways: tuple[tuple[str, Callable[[int], bytes | None]], ...] = (
        (f"by the record's key, {CUSTOMERS} of them", lambda n: b"customer-%d" % (n % CUSTOMERS)),
        ("by the request id", lambda _: None),
    )
    for what, key in ways:
        given = batch("free", (b'{"n":%d}' % n for n in range(RECORDS)), key)
        plain = Scorer({"free": models["v1"]}, TOPICS, max_request_bytes=10_000)
        arms = Arms(one, found, models, {})
        split = Scorer({"free": models["v1"]}, TOPICS, max_request_bytes=10_000, arms={"free": arms})
        other = Scorer({"free": models["v1"]}, TOPICS, max_request_bytes=10_000, arms={"other": arms})
        times = [[_cpu(partial(scorer.score, [given])) for scorer in (plain, split, other)] for _ in range(ROUNDS)]
        without, with_, beside = (min(column) / RECORDS * 1e6 for column in zip(*times, strict=True))
        print(f"canary {what}: {without:.2f} us a record without a rollout, {with_ - without:+.2f} us with one")
        print(f"  and {beside - without:+.2f} us if another model of the worker has one")
    keys = [b"customer-%d" % n for n in range(RECORDS)]
    splitter = Splitter("5f3c9a01d2e4b687")
    hashed = min(_cpu(lambda: [splitter.bucket(one) for one in keys]) for _ in range(ROUNDS))
    print(f"the hash of a key alone: {hashed / RECORDS * 1e6:.2f} us")


def measure_shadow(folder: Path) -> None:
    cap_numeric_threads()
    node = KafkaNode(folder / "kafka")
    node.start()
    try:
        settings = Settings(_env_file=None, home=folder, kafka_bootstrap_servers=node.bootstrap_servers)
        create_topics(settings)
        _measure_shadow(settings)
    finally:
        node.stop()


def _measure_shadow(settings: Settings) -> None:
    model_class: Any = available()["diamonds"]
    registry = Registry(settings.registry_dir)
    examples = list(islice(model_class.examples(Settings().data_dir), BATCHES * RECORDS))
    model = model_class()
    features = [msgspec.json.encode(example.features) for example in examples]
    rows = [model.decode(Raw(one)) for one in features[::10]]
    model.fit(rows, [example.label for example in examples[::10]], seed=1)
    for _ in range(2):
        registry.save(model, metrics={"r2": 0.9}, training_data_sha256="", seed=1)
    registry.promote("diamonds", "v1")
    plan = ShadowPlan("9f1c2a7b", "diamonds", "challenger", "v1", "v2")
    batches = [_shadow_batch(plan, features[start : start + RECORDS]) for start in range(0, len(features), RECORDS)]
    count = len(features)

    def again() -> None:
        for one in batches:
            decoded = [model.decode(row.request.features) for row in one.rows]
            assert sum(len(call.encoded) for call in predict_or_bisect(model, decoded)) == len(decoded)

    children: list[ShadowProcess] = []

    def start(plan: ShadowPlan, is_stopping: Callable[[], bool]) -> ShadowProcess:
        limits: dict[str, Any] = {"timeout": 60.0, "memory_bytes": 1 << 31, "is_stopping": is_stopping}
        children.append(ShadowProcess(registry, plan.model, plan.shadow_version, model_class, **limits))
        return children[-1]

    own = CollectorRegistry()
    metrics = ShadowMetrics(own)
    producer = ShadowProducer(producer_options(settings), topic_name(settings, SHADOWS), metrics.lost.inc)
    shadows = Shadows(start, lambda: producer, metrics)
    shadows.follow([plan])

    def done() -> float:
        labels = {"model": "diamonds", "outcome": "completed"}
        return own.get_sample_value("inflight_worker_shadow_records_total", labels) or 0.0

    def shadow() -> None:
        for one in batches:
            before = done()
            shadows.offer([one])
            while done() < before + len(one.rows):
                time.sleep(0.02)

    shadow()
    child, here, seconds = psutil.Process(children[0].pid), [], []
    for _ in range(5):
        here.append(_cpu(again))
        times = child.cpu_times()
        parent = time.process_time()
        shadow()
        producer._producer.flush(30)
        after = child.cpu_times()
        seconds.append((time.process_time() - parent, after.user + after.system - times.user - times.system))
    shadows.stop()
    second = sorted(here)[2] / count * 1e6
    worker, process = sorted(seconds, key=sum)[2]
    print(f"second scoring itself: {second:.2f} us a record")
    print(f"shadow: {process / count * 1e6:.2f} us in its process, {worker / count * 1e6:.2f} us in the worker")
    lost = own.get_sample_value("inflight_worker_shadow_lost_total")
    print(f"ratio: {(worker + process) / count * 1e6 / second:.2f}; {lost:.0f} records lost")


def _shadow_batch(plan: ShadowPlan, features: list[bytes]) -> ShadowBatch:
    given = batch("diamonds", iter(features), lambda _: None)
    scored = ScoredBatch.empty(given, TOPICS)
    rows = [
        PendingRequest(
            PredictionRequested(f"0198c0de-{number:08d}", "diamonds", Raw(one)), None, record, None, scored, 1_000_000
        )
        for number, (one, record) in enumerate(zip(features, given.records, strict=True))
    ]
    return ShadowBatch(plan, rows, [b'{"price":326.5}'] * len(rows), 1_010.0, 0.01)


def _cpu(action: Callable[[], Any]) -> float:
    started = time.process_time()
    action()
    return time.process_time() - started


if __name__ == "__main__":
    measure_canary()
    with tempfile.TemporaryDirectory() as name:
        measure_shadow(Path(name))
