"""Avro and framed JSON on a real broker, with a real schema registry: Apicurio."""

import io
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import fastavro
import pytest

from inflight.settings import Settings
from machine_learning_engineering.dead_letters.letter import read_origin
from machine_learning_engineering.kafka.client import create_topics
from tests.conftest import MISSING_TOOLS
from tests.integration.test_bound_records import PARTITIONS, Topic
from tests.support.programs.streaming import running
from tests.support.schema_registry import Registry
from tests.support.waiting import until

NUMBER = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}


def schema(kind: Any, name: str = "n", **more: Any) -> dict[str, Any]:
    order = {"type": "record", "name": "inner", "fields": [{"name": name, "type": kind}]}
    return {"type": "record", "name": "order", "fields": [{"name": "order", "type": order}], **more}


def framed(number: int, text: dict[str, Any], row: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(text), row)
    return b"\0" + number.to_bytes(4, "big") + stream.getvalue()


@pytest.fixture
def registry(settings: Settings) -> Iterator[Registry]:
    if MISSING_TOOLS:
        pytest.skip("no real registry without Java and Maven")
    found = Registry(settings.home)
    try:
        found.start()
        yield found
    finally:
        found.stop()


def test_avro_is_read_and_a_registry_that_is_away_is_waited_for(settings: Settings, registry: Registry) -> None:
    """Two versions of a schema, decimals, an unknown id, bytes that do not fit; and the registry hangs in between."""
    create_topics(settings)
    topic = Topic(settings, "avro", format='"avro"', registry=f'"{registry.url}"')
    topic.create()
    first, second = schema("long"), schema(NUMBER)
    other = schema("string", "m")
    ids = [registry.register(f"{topic.name}-{at}", json.dumps(one)) for at, one in enumerate((first, second, other))]
    topic.send([framed(ids[0], first, {"order": {"n": n}}) for n in range(20)])
    topic.send([framed(ids[1], second, {"order": {"n": Decimal(n)}}) for n in range(20, 30)])
    topic.send(
        [framed(999_999, first, {"order": {"n": 1}}), b"\0\0", b'{"order":{"n":1}}', b"\0" + ids[0].to_bytes(4, "big")]
    )
    topic.send([framed(ids[2], other, {"order": {"m": "x"}})])
    with running("bound_worker", settings, str(topic.file), worker_metrics_port=0) as program:
        topic.done()
        assert f"schema {ids[2]}: it has no field `order.n`, and feature `n` needs one" in program.log
        completed = [one for one in topic.results() if one["type"] == "prediction.completed.v1"]
        assert sorted(one["prediction"]["doubled"] for one in completed) == [2 * n for n in range(30)]
        reasons = sorted(read_origin(letter.headers()).reason for letter in topic.letters().values())
        assert reasons == ["not_avro", "not_framed", "not_framed", "unknown_schema"]
        third = schema("int", doc="a later version")
        number = registry.register(f"{topic.name}-late", json.dumps(third))
        registry.hang()
        topic.send([framed(number, third, {"order": {"n": n}}) for n in range(100, 106)])
        # It asks in vain, and no record is to blame.
        until(lambda: topic.lag() == 6, 30, "the records wait")
        registry.go_on()
        topic.done()
        answered = [one for one in topic.results() if one.get("prediction", {}).get("doubled", 0) >= 200]
        assert len(answered) == 6
        assert len(topic.letters()) == 4
        assert program.terminate() == 0
    assert PARTITIONS == 3
