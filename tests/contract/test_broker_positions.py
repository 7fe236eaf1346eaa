"""What lies between the records of a partition: no consumer of ours may wait for it, stop at it, or miss it."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import OFFSET_INVALID, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from prometheus_client import CollectorRegistry

from inflight.settings import Settings
from machine_learning_engineering.events.topics import MEBIBYTE
from machine_learning_engineering.events.unreadable import UNREADABLE_BATCH, UnreadableRecord
from machine_learning_engineering.kafka.client import client_options, producer_options, read_to_end
from machine_learning_engineering.kafka.positions import OffsetResets, is_out_of_range
from monitoring.runtime.consumer import ConsumerMetrics, GroupConsumer, ends_to_commit, group_options, records
from stream_app.kafka.lag import LagQuery
from stream_app.kafka.publisher import Publisher
from stream_app.serving.batch import TP
from tests.support.topics import delete_topic


@pytest.fixture
def settings(settings: Settings, each_broker: Any) -> Settings:
    """On every kind of broker."""
    return settings


def until(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)
    return found


class Reader:
    """A member of a group that reads in a thread of the test."""

    def __init__(self, settings: Settings, topic: str, group: str = "g") -> None:
        self.metrics = ConsumerMetrics(CollectorRegistry())
        self.consumer = GroupConsumer(group_options(settings, group), "indexer", self.metrics)
        self.topic = topic
        self.seen: list[Any] = []
        self.committed: dict[tuple[str, int], int] = {}
        self.consumer.subscribe([topic])

    def read(self) -> None:
        found = records(self.consumer.consume(100, 0.1), "indexer")
        self.seen += found
        offsets = {(one.topic(), one.partition()): one.offset() + 1 for one in found}
        offsets |= ends_to_commit(self.consumer, self.committed | offsets)
        if offsets:
            self.consumer.commit(
                offsets=[TopicPartition(*tp, offset) for tp, offset in offsets.items()], asynchronous=False
            )
            self.committed |= offsets

    def read_until(self, condition: Callable[[], Any], seconds: float = 120.0) -> None:
        def met() -> Any:
            self.read()
            return condition()

        until(met, seconds)

    def lag(self) -> int:
        """By the broker, as everybody else sees it."""
        lag = 0
        for found in self.consumer.committed(self.consumer.assignment(), timeout=20):
            low, high = self.consumer.get_watermark_offsets(found, timeout=20)
            lag += high - max(low, found.offset)
        return lag

    @property
    def values(self) -> list[bytes]:
        return [one.value() for one in self.seen]


@contextmanager
def reading(settings: Settings, topic: str, group: str = "g") -> Iterator[Reader]:
    reader = Reader(settings, topic, group)
    try:
        yield reader
    finally:
        reader.consumer.close()


def new_topic(settings: Settings, partitions: int = 1) -> str:
    name = f"{settings.topic_prefix}{uuid.uuid4().hex[:8]}"
    create(settings, name, partitions)
    return name


def create(settings: Settings, name: str, partitions: int = 1) -> None:
    admin = AdminClient(client_options(settings))

    def created() -> bool:
        # A topic that is being deleted still exists.
        try:
            topic = NewTopic(name, partitions, 1, config={"max.message.bytes": str(4 * MEBIBYTE)})
            admin.create_topics([topic])[name].result()
        except KafkaException:
            return False
        return True

    until(created)

    def has_leaders() -> bool:
        found = admin.list_topics(name, timeout=20).topics[name]
        return found.error is None and bool(found.partitions) and all(p.leader >= 0 for p in found.partitions.values())

    until(has_leaders)


def send(settings: Settings, topic: str, *values: bytes, partition: int = 0, **options: Any) -> None:
    producer = Producer({**producer_options(settings), **options})
    for value in values:
        producer.produce(topic, value, partition=partition)
    assert producer.flush(120) == 0


def transactional(settings: Settings) -> Producer:
    producer = Producer({**client_options(settings), "transactional.id": uuid.uuid4().hex, "linger.ms": 0})
    producer.init_transactions(60)
    return producer


def transaction(producer: Producer, topic: str, *values: bytes) -> None:
    """A transaction whose records have arrived, and that is still open."""
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, partition=0)
    assert producer.flush(60) == 0


def bomb(settings: Settings, topic: str, records: int = 1) -> None:
    """A small batch of records that no client unpacks: they are larger than all that it may receive."""
    options = {
        **client_options(settings),
        "compression.type": "zstd",
        "message.max.bytes": 1_000_000_000,
        "batch.size": 1_000_000_000,
        "batch.num.messages": records,
        "linger.ms": 60_000,
    }
    producer = Producer(options)
    for _ in range(records):
        producer.produce(topic, bytes(120_000_000 // records), partition=0)
    assert producer.flush(120) == 0


def test_what_was_committed_in_a_transaction_leaves_no_lag(settings: Settings) -> None:
    """Behind the last record is a marker that nobody is handed; nor are aborted records, and those of an open one."""
    topic, producer = new_topic(settings), transactional(settings)
    with reading(settings, topic) as reader:
        transaction(producer, topic, b"1", b"2")
        producer.commit_transaction(60)
        reader.read_until(lambda: len(reader.seen) == 2 and reader.lag() == 0)
        transaction(producer, topic, b"aborted")
        producer.abort_transaction(60)
        reader.read_until(lambda: reader.lag() == 0 and reader.committed[topic, 0] == 5)
        # The embedded broker drops what the same producer writes after a transaction that it aborted.
        producer = transactional(settings)
        transaction(producer, topic, b"open")
        send(settings, topic, b"behind it")
        reader.read()
        assert reader.lag() == 0
        producer.commit_transaction(60)
        reader.read_until(lambda: len(reader.seen) == 4 and reader.lag() == 0)
    assert reader.values == [b"1", b"2", b"open", b"behind it"]


def test_an_idle_group_that_starts_behind_a_marker_has_no_lag(settings: Settings) -> None:
    """One that had committed the last record only, as every client does that commits what it was handed."""
    topic, producer = new_topic(settings), transactional(settings)
    transaction(producer, topic, b"1")
    producer.commit_transaction(60)
    with reading(settings, topic) as reader:
        reader.read_until(lambda: reader.seen)
        reader.consumer.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
    with reading(settings, topic) as reader:
        reader.read_until(lambda: reader.consumer.assignment() and reader.lag() == 0)
        assert reader.seen == []


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_a_batch_that_cannot_be_unpacked_stops_nothing(settings: Settings, batch: int) -> None:
    """It is skipped as a whole, in its place, and the records around it are read once each."""
    topic = new_topic(settings)
    send(settings, topic, b"before")
    bomb(settings, topic, batch)
    send(settings, topic, b"behind")
    with reading(settings, topic) as reader:
        reader.read_until(lambda: len(reader.seen) == 3)
        assert reader.values == [b"before", None, b"behind"]
        skipped = reader.seen[1]
        assert isinstance(skipped, UnreadableRecord)
        assert skipped.reason == UNREADABLE_BATCH
        assert (skipped.partition(), skipped.offset()) == (0, batch)
        assert f"offsets 1 to {batch} " in skipped.explanation
        assert reader.metrics.unreadable.labels(topic)._value.get() == 1
        reader.read_until(lambda: reader.lag() == 0)


def test_two_unreadable_batches_one_after_the_other(settings: Settings) -> None:
    """Each is one, also where the second is the end of the partition and the first is its beginning."""
    topic = new_topic(settings)
    bomb(settings, topic)
    bomb(settings, topic, 2)
    with reading(settings, topic) as reader:
        reader.read_until(lambda: len(reader.seen) == 2)
        assert [one.offset() for one in reader.seen] == [0, 2]
        send(settings, topic, b"behind")
        reader.read_until(lambda: len(reader.seen) == 3)
        assert reader.values[-1] == b"behind"


def delete_before(settings: Settings, topic: str, offset: int) -> None:
    admin = AdminClient(client_options(settings))
    for done in admin.delete_records([TopicPartition(topic, 0, offset)]).values():
        done.result()


def test_records_that_were_deleted_before_they_were_read_are_counted(settings: Settings) -> None:
    """By retention, as a rule: the offset that was committed is older than the first record that is left."""
    topic = new_topic(settings)
    send(settings, topic, b"0", b"1")
    with reading(settings, topic) as reader:
        reader.read_until(lambda: reader.committed.get((topic, 0)) == 2)
    send(settings, topic, b"2", b"3", b"4", b"5")
    delete_before(settings, topic, 5)
    with reading(settings, topic) as reader:
        reader.read_until(lambda: reader.seen)
        assert reader.values == [b"5"]
        assert reader.metrics.missing.labels(topic)._value.get() == 3
        reader.read_until(lambda: reader.lag() == 0)


def test_a_new_group_misses_nothing(settings: Settings) -> None:
    """It starts at the first record, and has lost none of those before it. All partitions start at once."""
    topic = new_topic(settings, 3)
    for partition in range(3):
        send(settings, topic, b"%d" % partition, partition=partition)
    with reading(settings, topic) as reader:
        reader.read_until(lambda: len(reader.seen) == 3)
        assert sorted(reader.values) == [b"0", b"1", b"2"]
        assert reader.metrics.missing.labels(topic)._value.get() == 0


class Restarted:
    """Partitions without a group's assignment, whose events are only noted by the test."""

    def __init__(self, settings: Settings, topic: str, *starts: int) -> None:
        self.consumer = Consumer(group_options(settings, "g"))
        self.resets = OffsetResets(self.consumer)
        self.seen: list[int] = []
        self.events: dict[int, Any] = {}
        self.consumer.assign([TopicPartition(topic, number, start) for number, start in enumerate(starts)])

    def read_until(self, condition: Callable[[], Any]) -> None:
        def met() -> Any:
            for message in self.consumer.consume(100, 0.1):
                if is_out_of_range(message):
                    self.events[message.partition()] = message
                elif message.error() is None:
                    self.seen.append(message.offset())
            return condition()

        until(met)


def test_an_event_that_is_left_over_from_an_assignment_before_moves_nothing(settings: Settings) -> None:
    """What was read since is not read again."""
    topic = new_topic(settings, 2)
    send(settings, topic, *[b"x"] * 50)
    group = Restarted(settings, topic, OFFSET_INVALID, OFFSET_INVALID)
    try:
        group.read_until(lambda: len(group.events) == 2)
        group.resets.note(group.events[1])
        assert until(group.resets.apply)
        group.read_until(lambda: len(group.seen) >= 50)
        group.resets.note(group.events[0])
        until(lambda: group.resets.apply() or not group.resets.is_pending)
        send(settings, topic, *[b"y"] * 10)
        group.read_until(lambda: group.seen[-1] == 59)
        assert group.seen == list(range(60))
    finally:
        group.consumer.close()


def test_partitions_that_are_restarted_one_after_the_other_read_no_record_twice(settings: Settings) -> None:
    """What was read of the others counts, also if nothing was read of them in between."""
    topic = new_topic(settings, 3)
    send(settings, topic, *[b"x"] * 50)
    group = Restarted(settings, topic, 0, 1_000, 1_000)
    try:
        group.read_until(lambda: len(group.events) == 2 and len(group.seen) == 50)
        for event in list(group.events.values()):
            group.resets.note(event)
            (reset,) = until(group.resets.apply)
            assert (reset.partition, reset.start, reset.restarted) == (event.partition(), 0, True)
        send(settings, topic, *[b"y"] * 10)
        group.read_until(lambda: group.seen[-1] == 59)
        assert group.seen == list(range(60))
    finally:
        group.consumer.close()


def test_a_topic_that_was_made_again_is_read_from_its_start(settings: Settings) -> None:
    """Under a live consumer: it goes on, and what it commits goes down."""
    topic = new_topic(settings)
    send(settings, topic, *[b"old"] * 10)
    with reading(settings, topic) as reader:
        reader.read_until(lambda: reader.committed.get((topic, 0)) == 10)
        delete_topic(settings, topic)
        create(settings, topic)
        send(settings, topic, b"new", b"newer")
        reader.read_until(lambda: len(reader.seen) == 12)
        assert reader.values[10:] == [b"new", b"newer"]
        reader.read_until(lambda: reader.committed[topic, 0] == 2)


def test_more_partitions_are_read_within_seconds(settings: Settings) -> None:
    """librdkafka asks for them every five minutes, if it is not told otherwise."""
    topic, admin = new_topic(settings), AdminClient(client_options(settings))
    with reading(settings, topic) as reader:
        reader.read_until(lambda: reader.consumer.assignment())
        admin.create_partitions([NewPartitions(topic, 3)])[topic].result()
        until(lambda: len(admin.list_topics(topic, timeout=20).topics[topic].partitions) == 3)
        started = time.monotonic()
        producer = Producer(producer_options(settings))
        producer.produce(topic, b"new", partition=2)
        assert producer.flush(60) == 0
        reader.read_until(lambda: reader.seen, 60)
        # A refresh and a rebalance: five seconds, and the session's heartbeat.
        assert time.monotonic() - started < 30


def test_outputs_go_to_the_partition_of_their_request_when_both_topics_get_more(settings: Settings) -> None:
    """The publisher has counted the partitions at its start, and asks again when a request comes from a new one."""
    topic, admin = new_topic(settings), AdminClient(client_options(settings))
    publisher = Publisher(producer_options(settings))
    publisher.load_partition_counts([topic])
    admin.create_partitions([NewPartitions(topic, 4)])[topic].result()
    until(lambda: len(admin.list_topics(topic, timeout=20).topics[topic].partitions) == 4)
    done = threading.Event()
    publisher.publish({topic: [(None, b"output", None)]}, 3, lambda error: error or done.set())
    assert done.wait(60)
    with reading(settings, topic) as reader:
        reader.read_until(lambda: reader.seen)
        assert [one.partition() for one in reader.seen] == [3]


def test_an_unreadable_batch_does_not_stop_the_commands_that_read_a_topic(settings: Settings) -> None:
    """The audit, the list of dead letters, a trace: they read the rest, also if the batch is the last one."""
    name = f"{uuid.uuid4().hex[:8]}"
    topic = settings.topic_prefix + name
    create(settings, topic)
    send(settings, topic, b"before")
    bomb(settings, topic, 3)
    assert [message.value() for message in read_to_end(settings, name)] == [b"before"]
    send(settings, topic, b"behind")
    assert [message.value() for message in read_to_end(settings, name)] == [b"before", b"behind"]


def test_the_workers_query_of_its_lag_holds_up_no_poll(settings: Settings) -> None:
    """It knows what a transaction leaves behind, and does not wait behind the consumer's fetch, half a second each."""
    topic = new_topic(settings, 4)
    query, partitions = LagQuery(client_options(settings)), [TP(topic, number) for number in range(4)]
    send(settings, topic, b"1", b"2")
    producer = transactional(settings)
    transaction(producer, topic, b"open")
    assert query({partitions[0]: 0, partitions[1]: 0}, [], 20) == 2
    assert query({partitions[0]: 2}, [], 20) == 0
    assert query({partitions[0]: -1001}, [], 20) == 2
    producer.commit_transaction(60)
    until(lambda: query({partitions[0]: 2}, [], 20) == 2)
    assert query({}, [topic], 20) == 0


def test_the_workers_query_of_its_lag_notices_that_the_broker_is_away() -> None:
    """Also if it owns no partition."""
    query = LagQuery(
        {"bootstrap.servers": "127.0.0.1:1", "log_level": 0, "group.id": "g", "enable.partition.eof": True}
    )
    for committed in ({TP("t", 0): 5}, {}):
        with pytest.raises(KafkaException):
            query(committed, ["t"], 0.2)
