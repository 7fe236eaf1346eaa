"""Existing topics as monitoring reads them: their records as requests, and the topics of their results."""

from collections.abc import Iterable
from typing import Any

import msgspec
from confluent_kafka import Message, TopicPartition
from msgspec import Raw

from machine_learning_engineering.declaration.framed import decoder_of
from machine_learning_engineering.declaration.mapping import MappedRecord, SourceMapping, UnmappedRecord
from machine_learning_engineering.declaration.reading import InvalidDeclaration
from machine_learning_engineering.declaration.schema import Declaration
from machine_learning_engineering.events.headers import headers_of
from machine_learning_engineering.events.schemas import SourcePosition
from machine_learning_engineering.events.sources import source_of
from machine_learning_engineering.kafka.client import end_offsets, unpolled_consumer
from machine_learning_engineering.kafka.group_starts import parse_start
from machine_learning_engineering.settings import KernelSettings
from monitoring.runtime.groups import WORKER

_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
BROKER_SECONDS = 30.0


class Source:
    """An existing topic that a model reads, as its declaration says.

    Raises:
        InvalidDeclaration: it can't be used; no worker serves it.
    """

    def __init__(self, declaration: Declaration) -> None:
        self._mapping = SourceMapping(declaration)
        self._decode = decoder_of(declaration)
        self._result = declaration.result
        self.model = declaration.model.name
        self.topic = self._mapping.source.topic
        self.own_results = self._result.topic
        """Full name of a topic of its own for results; empty if they go to the deployment's."""
        self._starts_at_end = self._mapping.source.start == "latest"

    def read(self, record: Message, max_bytes: int, place: SourcePosition | None = None) -> MappedRecord | None:
        """The request in a record; None if it has none: it becomes a dead letter.

        Args:
            place: in the source, of a record that was sent again.

        Raises:
            SchemaRegistryAway: it can't be read now.
        """
        value = record.value()
        if not value or len(value) > max_bytes:
            return None
        at = place or SourcePosition(self.topic, record.partition() or 0, record.offset() or 0)
        try:
            value = value if self._decode is None else self._decode(value)
            return self._mapping.read(value, record.key(), headers_of(record), at.topic, at.partition, at.offset)
        except UnmappedRecord:
            return None

    def result_of(self, value: bytes) -> bytes:
        """The result event in the value of a record of `own_results`.

        Raises:
            ValueError: it holds none.
        """
        if self._result.form != "enriched":
            return value
        return bytes(_decode_fields(value).get(self._result.field, b""))

    def starts(self, settings: KernelSettings) -> dict[int, tuple[int, int, int | None]]:
        """By partition: the offset from which on records are requests, the end, and the committed offset.

        Raises:
            confluent_kafka.KafkaException: the broker is unreachable.
        """
        ends = end_offsets(unprefixed(settings), self.topic)
        consumer = unpolled_consumer(settings, WORKER)
        try:
            asked = [TopicPartition(self.topic, partition) for partition in ends]
            found = consumer.committed(asked, timeout=BROKER_SECONDS) if asked else []
        finally:
            consumer.close()
        starts = {}
        for tp in found:
            _, high = ends[tp.partition]
            committed = tp.offset if tp.error is None and tp.offset >= 0 else None
            start = parse_start(tp.metadata)
            if committed is None and self._starts_at_end:
                start = high
            starts[tp.partition] = (start or 0, high, committed)
        return starts


class Sources:
    """The sources of a deployment, by topic. Declarations that can't be used are left out, as workers do."""

    def __init__(self, declarations: Iterable[Declaration] = ()) -> None:
        self._by_topic: dict[str, Source] = {}
        for declaration in declarations:
            try:
                source = Source(declaration)
            except InvalidDeclaration:
                continue
            self._by_topic.setdefault(source.topic, source)

    def __iter__(self) -> Any:
        return iter(self._by_topic.values())

    def sent_again(self, record: Message) -> tuple[Source, SourcePosition] | None:
        """Source and place of a record on the topic of requests that was sent again; None if it is a plain request."""
        place = source_of(headers_of(record))
        source = None if place is None else self._by_topic.get(place.topic)
        return None if source is None or place is None else (source, place)


def unprefixed(settings: KernelSettings) -> KernelSettings:
    """Settings with which readers take the full name of a topic."""
    return settings.model_copy(update={"topic_prefix": ""})
