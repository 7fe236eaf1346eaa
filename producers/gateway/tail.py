"""Reads the ends of the topics of requests and results without a consumer group, in a thread of its own.

A group would hand the partition of a waiting request to another gateway whenever one comes or goes. Here every gateway
reads every partition; records of other senders cost it a look at their headers.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from machine_learning_engineering.events.headers import FINGERPRINT, headers_of
from machine_learning_engineering.events.topics import REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import METADATA_REFRESH_SECONDS, consumer_options, topic_name
from machine_learning_engineering.kafka.idle import IdlePausingConsumer
from machine_learning_engineering.kafka.positions import is_end, is_unreadable, skip_unreadable
from machine_learning_engineering.observability.rate_limit import RATE_LIMITED
from producers.gateway.recall import Position, Seen, decode_view
from producers.gateway.settings import GatewaySettings

logger = logging.getLogger(__name__)

WORKER_GROUP = "inflight-worker"
# A consumer needs a group that it never joins.
READER = "inflight-reader"
_ACL = f"allow the gateway to describe the group {WORKER_GROUP}"
_BROKER_SECONDS = 5.0
_MAX_FINGERPRINT_BYTES = 64


class _Partition(NamedTuple):
    topic: str
    partition: int


class Tail:
    """Follows all partitions of both topics.

    Args:
        deliver: called in the thread with the gateways' records, in the order of each partition.
        report: called in the thread with the reason why nothing may be published yet; with an empty one once all
            positions are known and everything before was delivered.
    """

    def __init__(
        self, settings: GatewaySettings, deliver: Callable[[list[Seen]], None], report: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._deliver = deliver
        self._report = report
        self._requests, self._results = topic_name(settings, REQUESTS), topic_name(settings, RESULTS)
        self._options = {
            **consumer_options(settings, READER),
            "group.id": READER,
            # A topic that is gone and there again is read from its start.
            "auto.offset.reset": "earliest",
            "queued.max.messages.kbytes": 16 * 1024,
            "reconnect.backoff.max.ms": 1_000,
        }
        self._consumer = Consumer(self._options)
        self._fetch = IdlePausingConsumer(self._consumer, settings.kafka_idle_pause)
        self._behind: dict[_Partition, int] = {}
        self._assigned: set[_Partition] = set()
        self._partitions: dict[int, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inflight-gateway-tail", daemon=True)
        self._thread.start()

    @property
    def partitions(self) -> int:
        """Partitions of the topic of requests whose positions are known; a new one counts after a while.

        The producer, which asks for them by itself, has to know it too.
        """
        young = time.monotonic() - 2 * METADATA_REFRESH_SECONDS
        # Those of the start have the time 0.
        return sum(since < young or not since for since in self._partitions.values())

    def close(self, timeout: float) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            refresh_due = 0.0
            while not self._stopping.is_set():
                if time.monotonic() >= refresh_due:
                    self._refresh()
                    refresh_due = time.monotonic() + (METADATA_REFRESH_SECONDS if self._assigned else 0.5)
                if self._assigned:
                    self._read()
                else:
                    self._stopping.wait(0.2)
        except Exception:
            logger.exception("the gateway can't read the stream any more")
            self._report("a bug ended the reading of the stream: restart the gateway")
        finally:
            self._consumer.close()

    def _refresh(self) -> None:
        """Assign the partitions that are not yet; the broker's time-outs are tried again."""
        try:
            found = [
                _Partition(topic, number)
                for topic in (self._requests, self._results)
                for number in self._consumer.list_topics(topic, _BROKER_SECONDS).topics[topic].partitions
            ]
            new = [one for one in found if one not in self._assigned]
            if {one.topic for one in found} != {self._requests, self._results}:
                if not self._assigned:
                    self._report(f"the topics {self._requests} and {self._results} do not exist: start a worker")
                return
            if new:
                starts = self._starts(new, first=not self._assigned)
                self._consumer.incremental_assign([TopicPartition(*one, start) for one, start in starts.items()])
                first = not self._assigned
                self._assigned.update(new)
                since = 0.0 if first else time.monotonic()
                self._partitions |= {one.partition: since for one in new if one.topic == self._requests}
        except KafkaException as error:
            if self._assigned:
                logger.warning("the partitions are not known: %s", error.args[0].str(), extra=RATE_LIMITED)
            else:
                self._report(f"the broker does not respond ({error.args[0].name()})")
            return
        if self._assigned and not self._behind:
            self._report("")

    def _starts(self, new: Iterable[_Partition], *, first: bool) -> dict[_Partition, int]:
        """Where to begin: so long ago as is to be recalled, but before the first request that still runs."""
        settings = self._settings
        marks = {
            one: self._consumer.get_watermark_offsets(TopicPartition(*one), timeout=_BROKER_SECONDS) for one in new
        }
        if not first:
            return {one: low for one, (low, _) in marks.items()}
        since = int((time.time() - settings.gateway_recall_time) * 1000)
        asked = [TopicPartition(*one, since) for one in new]
        times = {
            _Partition(tp.topic, tp.partition): tp.offset
            for tp in self._consumer.offsets_for_times(asked, timeout=_BROKER_SECONDS)
        }
        unscored = self._first_unscored([one for one in new if one.topic == self._requests])
        at_most = -(-settings.gateway_recall_requests // max(1, len(self._partitions) or len(marks) // 2))
        starts = {}
        for one, (low, high) in marks.items():
            start = times.get(one, -1)
            start = high if start < 0 else start
            if one in unscored:
                start = min(start, unscored[one])
            starts[one] = max(low, min(start, high), high - at_most)
            if starts[one] < high:
                self._behind[one] = high
        self._report("the stream is being read")
        return starts

    def _first_unscored(self, partitions: list[_Partition]) -> dict[_Partition, int]:
        """The workers' committed offsets: requests before them have their outcome."""
        options = {**self._options, "group.id": topic_name(self._settings, WORKER_GROUP)}
        options.pop("error_cb", None)
        asker = Consumer(options)
        try:
            found = asker.committed([TopicPartition(*one) for one in partitions], timeout=_BROKER_SECONDS)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
                raise
            logger.warning("requests that run longer than INFLIGHT_GATEWAY_RECALL_TIME are not known: %s", _ACL)
            return {}
        finally:
            asker.close()
        return {_Partition(tp.topic, tp.partition): tp.offset for tp in found if not tp.error and tp.offset >= 0}

    def _read(self) -> None:
        messages = self._fetch.consume(1, 0.2)
        if messages:
            messages += self._fetch.consume(1_000, 0)
        found = [seen for message in messages if (seen := self._seen(message)) is not None]
        if found:
            self._deliver(found)
        if self._behind:
            for message in messages:
                self._catch_up(message)

    def _catch_up(self, message: Message) -> None:
        offset = message.offset()
        if offset is None:
            return
        one = _Partition(message.topic(), message.partition())
        reached = offset if message.error() is not None else offset + 1
        if (end := self._behind.get(one)) is not None and reached >= end and (not message.error() or is_end(message)):
            del self._behind[one]
            if not self._behind:
                self._report("")

    def _seen(self, message: Message) -> Seen | None:
        error = message.error()
        if error is not None:
            if is_unreadable(message):
                skip_unreadable(self._consumer, self._options, message)
            elif error.code() != KafkaError._PARTITION_EOF:
                logger.warning("Kafka: %s", error.str(), extra=RATE_LIMITED)
            return None
        headers = headers_of(message)
        if not headers:
            return None
        marked = next((value for name, value in headers if name == FINGERPRINT and value), b"")
        if not marked or len(marked) > _MAX_FINGERPRINT_BYTES:
            return None
        value: bytes = message.value() or b""
        try:
            view = decode_view(value)
        except (ValueError, RecursionError):
            return None
        is_result = message.topic() == self._results
        return Seen(
            "result" if is_result else "request",
            view.request_id,
            view.model,
            marked.decode(errors="replace"),
            Position(message.partition(), message.offset()),
            value if is_result else b"",
        )


def read_at(settings: GatewaySettings, topic: str, position: Position, timeout: float = 5.0) -> Any:
    """The record at a position of a topic; None if it is not there any more. Blocks.

    Raises:
        TimeoutError: the broker did not respond.
    """
    options: dict[str, Any] = {**consumer_options(settings, READER), "group.id": READER, "auto.offset.reset": "error"}
    options.pop("error_cb")
    name, deadline = topic_name(settings, topic), time.monotonic() + timeout
    consumer = Consumer(options)
    try:
        # Of a partition that is not there, the client would say nothing for half a minute.
        if position.partition not in consumer.list_topics(name, timeout=timeout).topics[name].partitions:
            return None
        consumer.assign([TopicPartition(name, position.partition, position.offset)])
        while time.monotonic() < deadline:
            for message in consumer.consume(1, 0.2):
                if message.error() is None:
                    return message if message.offset() == position.offset else None
                if is_end(message) or message.error().code() == KafkaError._AUTO_OFFSET_RESET:
                    return None
    except KafkaException:
        pass
    finally:
        consumer.close()
    raise TimeoutError(f"the broker did not respond within {timeout:g} s")
