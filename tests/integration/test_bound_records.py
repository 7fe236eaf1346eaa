"""Everything that may be on an existing topic, on a real broker: each record has one outcome, or a reason for none."""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from inflight.settings import Settings
from machine_learning_engineering.dead_letters.letter import read_origin
from machine_learning_engineering.declaration.reading import parse_declaration
from machine_learning_engineering.events.topics import DEAD_LETTERS, LOGS, RESULTS
from machine_learning_engineering.kafka.client import client_options, create_topics, read_to_end
from monitoring.audit.audit import Audit
from monitoring.audit.readers import run_audit
from monitoring.exporter.lag import LagReader
from monitoring.runtime.groups import WORKER
from monitoring.runtime.sources import Sources
from tests.support.programs.streaming import Program, running
from tests.support.topics import delete_topic
from tests.support.waiting import until

PARTITIONS = 3
MEGABYTE = 1_000_000


class Topic:
    """An existing topic, the declaration of a model that reads it, and its own topic of results."""

    def __init__(self, settings: Settings, name: str, model: str = "doubling", **table: str) -> None:
        self.settings, self.whole = settings, settings.model_copy(update={"topic_prefix": ""})
        self.name = f"{settings.topic_prefix}{name}"
        self.scores = f"{self.name}-scores"
        self.admin = AdminClient(client_options(settings))
        source = {"start": '"earliest"', "request_id": '"{topic}-{partition}-{offset}"', **table}
        result = source.pop("result", f'topic = "{self.scores}"')
        rows = "\n".join(f"{key} = {value}" for key, value in source.items())
        text = f"""
[model]
name = "{model}"
answer = {{ doubled = "predict" }}
[source]
topic = "{self.name}"
{rows}
[features]
n = {{ from = "order.n", type = "int" }}
[result]
{result}
"""
        self.file = settings.home / f"{name}.toml"
        self.file.write_text(text)
        self.declaration = parse_declaration(text.encode())

    def create(self, **config: str) -> None:
        wanted = {"max.message.bytes": str(40 * MEGABYTE)} | config
        self.admin.create_topics([NewTopic(self.name, PARTITIONS, 1, config=wanted)])[self.name].result(30)

    def send(self, values: Any, **options: Any) -> None:
        """Publish values, or (value, key, headers, partition), and wait for all acknowledgements."""
        limits = {"message.max.bytes": 40 * MEGABYTE, "linger.ms": 5, "queue.buffering.max.kbytes": 400_000}
        producer = Producer({**client_options(self.settings), **limits, **options})
        for number, value in enumerate(values):
            value, key, headers, partition = (
                value if isinstance(value, tuple) else (value, None, None, number % PARTITIONS)
            )
            producer.produce(self.name, value, key, partition, headers=headers)
        assert producer.flush(120) == 0

    def records(self, name: str = "") -> list[Message]:
        return list(read_to_end(self.whole, name or self.name))

    def results(self) -> list[dict[str, Any]]:
        return [json.loads(record.value() or b"") for record in self.records(self.scores)]

    def letters(self) -> dict[tuple[int, int], Message]:
        """Dead letters by the place of their record."""
        found = {}
        for letter in read_to_end(self.settings, DEAD_LETTERS):
            origin = read_origin(letter.headers())
            if origin.topic == self.name:
                found[origin.partition, origin.offset] = letter
        return found

    def lag(self) -> int:
        reader = LagReader(self.settings, 20.0, lambda: [self.name])
        try:
            return reader.read()[WORKER, self.name]
        finally:
            reader.close()

    def done(self, seconds: float = 120.0) -> None:
        """Wait until the workers have committed everything."""
        until(lambda: self.lag() == 0, seconds, f"nothing of {self.name} waits")

    def audit(self) -> Audit:
        return run_audit(self.settings, index=False, sources=Sources([self.declaration]))


def event(n: Any) -> bytes:
    return json.dumps({"order": {"n": n, "note": "ü" * 10}}).encode()


@contextmanager
def worker(*topics: Topic) -> Iterator[Program]:
    settings = topics[0].settings
    with running("bound_worker", settings, *(str(one.file) for one in topics), worker_metrics_port=0) as program:
        expected = settings.topic_partitions + PARTITIONS * len(topics)

        def owns() -> bool:
            assert program.process.poll() is None, program.log[-3_000:]
            return program.metrics().get("inflight_worker_assigned_partitions") == expected

        until(owns, 60, "the worker owns all partitions")
        yield program


@pytest.fixture
def orders(settings: Settings) -> Topic:
    create_topics(settings)
    topic = Topic(settings, "orders")
    topic.create()
    return topic


def test_each_kind_of_record_has_its_outcome(orders: Topic) -> None:
    """Codecs, null keys and headers, tombstones, transactions, 30 MB, NaN, framed and other bytes."""
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        orders.send([event(n) for n in range(30)], **{"compression.type": codec})
    odd = [
        (event(1), None, None, 0),
        (event(1), b"", [("a", None), ("b", b"")], 0),
        (event(1), b"\0\xff", [("a", b"1"), ("a", b"2")], 0),
        (None, b"key", None, 0),
        (b"", b"key", None, 1),
        (b'{"order":{"n":NaN}}', None, None, 1),
        (b"\xff\xfe{\x00}\x00", None, None, 1),
        (b"\0\0\0\0\7\2\6abc", None, None, 1),
        (b"x" * (30 * MEGABYTE), b"large", None, 2),
        (event("twelve"), None, None, 2),
    ]
    orders.send(odd)
    transactional = Producer({**client_options(orders.settings), "transactional.id": orders.name})
    transactional.init_transactions(30)
    for commits in (True, False, True):
        transactional.begin_transaction()
        for n in range(5):
            transactional.produce(orders.name, event(1_000 + n), partition=n % PARTITIONS)
        (transactional.commit_transaction if commits else transactional.abort_transaction)(30)
    with worker(orders) as program:
        orders.done()
        assert program.metrics()[f'inflight_worker_source_tombstones_total{{topic="{orders.name}"}}'] == 1
        assert program.terminate() == 0
    records = {(one.partition(), one.offset()): one for one in orders.records()}
    assert len(records) == 150 + len(odd) + 10
    answers = {(one["source"]["partition"], one["source"]["offset"]): one for one in orders.results()}
    letters = orders.letters()
    tombstones = {place for place, record in records.items() if record.value() is None}
    assert answers.keys() | letters.keys() | tombstones == records.keys()
    assert len(answers) + len(letters) + len(tombstones) == len(records) == len(orders.results()) + 5 + 1
    by_place = {(one.partition(), one.offset()): one for one in orders.records(orders.scores)}
    for record in by_place.values():
        source = json.loads(record.value() or b"")["source"]
        sent = records[source["partition"], source["offset"]]
        assert (record.partition(), record.key(), record.headers()) == (sent.partition(), sent.key(), sent.headers())
    reasons = sorted(read_origin(letter.headers()).reason for letter in letters.values())
    assert reasons == ["empty_value", "not_json", "not_json", "not_utf8", "too_large"]
    cut = next(letter for letter in letters.values() if read_origin(letter.headers()).reason == "too_large")
    assert (read_origin(cut.headers()).truncated or 0) > 30 * MEGABYTE > 2 * MEGABYTE > len(cut.value() or b"")
    failed = [one for one in answers.values() if one["type"] == "prediction.failed.v1"]
    assert [one["error"]["type"] for one in failed] == ["invalid_features"]
    found = orders.audit()
    assert found.passed, found
    assert (found.accepted, found.completed, found.failed, found.dead_letters) == (169, 163, 1, 5)
    assert (found.orphans, found.repeats, found.logs_seen) == (0, 0, 164)
    assert len({one.offset() for one in read_to_end(orders.settings, LOGS)}) > 0


def test_one_worker_serves_several_sources_and_requests(settings: Settings) -> None:
    """Results of one go to the deployment's topic, those of the other into its events."""
    create_topics(settings)
    plain = Topic(settings, "plain", "doubling", result='include = ["order.n"]')
    enriched = Topic(settings, "rich", "other", request_id='"key"', result="")
    enriched.file.write_text(
        enriched.file.read_text() + f'topic = "{enriched.scores}"\nform = "enriched"\nfield = "score"\n'
    )
    for topic in (plain, enriched):
        topic.create()
    with worker(plain, enriched) as program:
        plain.send([event(n) for n in range(200)])
        enriched.send([(event(n), f"k{n}".encode(), None, n % PARTITIONS) for n in range(200)])
        plain.done()
        enriched.done()
        assert program.terminate() == 0
    answers = [json.loads(one.value() or b"") for one in read_to_end(settings, RESULTS)]
    assert sorted(one["included"]["order.n"] for one in answers) == list(range(200))
    assert {one["source"]["topic"] for one in answers} == {plain.name}
    for record in enriched.records(enriched.scores):
        made = json.loads(record.value() or b"")
        assert made["score"]["prediction"] == {"doubled": 2 * made["order"]["n"]}
        assert (record.value() or b"").startswith(event(made["order"]["n"])[:-1])
        assert record.key() == made["score"]["request_id"].encode()
    declarations = [parse_declaration(one.file.read_bytes()) for one in (plain, enriched)]
    found = run_audit(settings, index=False, sources=Sources(declarations))
    assert found.passed
    assert (found.accepted, found.completed, found.orphans) == (400, 400, 0)


def test_a_new_group_begins_at_the_end_and_keeps_to_it(settings: Settings) -> None:
    """What was there before is no request; what came while no worker ran is; so is the first of a new partition."""
    create_topics(settings)
    topic = Topic(settings, "latest", start='"latest"')
    topic.create()
    topic.send([event(n) for n in range(30)])
    with worker(topic) as program:
        # Killed as soon as it owns the partitions: their start is committed by then.
        program.process.kill()
        program.process.wait()
    topic.send([event(100 + n) for n in range(30)])
    topic.admin.create_partitions([NewPartitions(topic.name, PARTITIONS + 1)])[topic.name].result(30)
    topic.send([(event(200), None, None, PARTITIONS)])
    topic.admin.create_partitions([NewPartitions(topic.scores, PARTITIONS + 1)])[topic.scores].result(30)
    with running("bound_worker", settings, str(topic.file), worker_metrics_port=0) as program:
        until(lambda: len(topic.results()) >= 31, 60, "all new records are answered")
        topic.done()
        assert program.terminate() == 0
    doubled = sorted(one["prediction"]["doubled"] for one in topic.results())
    assert doubled == [2 * (100 + n) for n in range(30)] + [400]
    found = topic.audit()
    assert found.passed
    assert (found.accepted, found.completed) == (31, 31)


def test_a_topic_that_is_deleted_and_created_again_is_read_from_its_beginning(orders: Topic) -> None:
    orders.send([event(n) for n in range(60)])
    with worker(orders) as program:
        orders.done()
        delete_topic(orders.settings, orders.name)
        orders.create()
        orders.send([event(500 + n) for n in range(6)])
        until(lambda: len(orders.results()) >= 66, 120, "the new records are answered")
        orders.done()
        assert program.process.poll() is None
        assert program.terminate() == 0
    new = [one for one in orders.results() if one["prediction"]["doubled"] >= 1_000]
    assert sorted(one["prediction"]["doubled"] for one in new) == [2 * (500 + n) for n in range(6)]


@pytest.mark.parametrize(
    ("prepare", "names"),
    [
        (lambda topic: None, "source.topic is missing"),
        (lambda topic: (topic.create(), _narrow(topic)), "number of partitions is 1, wanted 3"),
        (lambda topic: (topic.create(), _small(topic)), "max.message.bytes is 1000"),
        (
            lambda topic: topic.file.write_text(topic.file.read_text().replace(topic.scores, topic.name)),
            "is the source",
        ),
        (
            lambda topic: (
                topic.create(),
                topic.file.write_text(
                    topic.file.read_text().replace(topic.scores, f"{topic.settings.topic_prefix}prediction-logs")
                ),
            ),
            "the deployment's or the broker's own",
        ),
    ],
)
def test_a_worker_with_unusable_topics_says_why_and_does_not_start(
    settings: Settings, prepare: Callable[[Topic], Any], names: str
) -> None:
    create_topics(settings)
    topic = Topic(settings, "wrong")
    prepare(topic)
    with running("bound_worker", settings, str(topic.file), worker_metrics_port=0) as program:
        code = program.wait(60)
        assert code != 0
        assert names in program.log
        assert code == 2 or "InvalidDeclaration" in program.log


def _narrow(topic: Topic) -> None:
    topic.admin.create_topics([NewTopic(topic.scores, 1, 1)])[topic.scores].result(30)


def _small(topic: Topic) -> None:
    wanted = NewTopic(topic.scores, PARTITIONS, 1, config={"max.message.bytes": "1000"})
    topic.admin.create_topics([wanted])[topic.scores].result(30)


def test_a_topic_of_results_with_small_limits_is_filled_all_the_same(orders: Topic) -> None:
    """Batches keep to its limit, and a result that does not is a failure."""
    wanted = NewTopic(orders.scores, PARTITIONS, 1, config={"max.message.bytes": str(300_000)})
    orders.admin.create_topics([wanted])[orders.scores].result(30)
    with orders.file.open("a") as file:
        file.write('include = ["padding"]\n')
    chance = random.Random(1)
    # Random digits: batches that compress well would fit anyway.
    sizes = [450_000 if n % 50 == 7 else 10_000 for n in range(150)]
    orders.send(
        [json.dumps({"order": {"n": n}, "padding": chance.randbytes(size).hex()}) for n, size in enumerate(sizes)]
    )
    with worker(orders) as program:
        orders.done()
        assert program.terminate() == 0
    found = orders.results()
    assert len(found) == 150
    failed = [one for one in found if one["type"] == "prediction.failed.v1"]
    assert len(failed) == 3
    assert all("larger than" in one["error"]["message"] for one in failed)
