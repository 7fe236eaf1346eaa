"""Declarations and records of an existing topic, for tests of the worker."""

import json
from collections.abc import Sequence
from typing import Any

from confluent_kafka import TIMESTAMP_CREATE_TIME, Message

from machine_learning_engineering.declaration.reading import parse_declaration
from machine_learning_engineering.declaration.schema import Declaration
from stream_app.serving.batch import TP, PartitionBatch
from stream_app.serving.bindings import Binding

ORDERS = "orders"


def declaration(
    source: str = "",
    result: str = "",
    features: str = 'n = { from = "order.n", type = "int" }',
    model: str = "doubling",
) -> Declaration:
    """A declaration on `ORDERS`; each argument is TOML of its table."""
    topic = "" if "topic =" in source else f'topic = "{ORDERS}"'
    text = f"""
[model]
name = "{model}"
answer = {{ doubled = "predict" }}
[source]
{topic}
{source}
[features]
{features}
[result]
{result}
"""
    return parse_declaration(text.encode())


def binding(*arguments: Any, **more: Any) -> Binding:
    """The binding of a `declaration`."""
    return Binding(declaration(*arguments, **more), "results")


def event(n: Any = 1, **more: Any) -> bytes:
    """An order, as JSON."""
    return json.dumps({"order": {"id": f"o{n}", "n": n, "channel": "web"}, "customer": {"id": 7}, **more}).encode()


def source_record(
    value: bytes | None,
    offset: int = 0,
    *,
    key: bytes | None = b"customer-7",
    headers: Any = None,
    partition: int = 2,
    timestamp: tuple[int, int] = (TIMESTAMP_CREATE_TIME, 1_000_000),
    topic: str = ORDERS,
) -> Message:
    """A record as the client hands it over, with the time of its producer."""
    return Message(
        topic=topic, partition=partition, offset=offset, key=key, value=value, headers=headers, timestamp=timestamp
    )


def source_batch(records: Sequence[Message]) -> PartitionBatch:
    """A batch of records of one partition."""
    first, last = records[0], records[-1]
    size = sum(map(len, records))
    return PartitionBatch(TP(first.topic(), first.partition()), first.offset(), last.offset() + 1, list(records), size)
