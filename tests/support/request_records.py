"""Records, batches and a model for tests of the worker."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message

from stream_app.serving.batch import TP, PartitionBatch

REQUESTS = "prediction-requests"


class Features(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    n: int


class Answer(msgspec.Struct, frozen=True):
    doubled: int


class Doubling:
    """A model that raises for a batch with any of the rows `bad`, and remembers the sizes of its batches."""

    def __init__(self, bad: frozenset[int] = frozenset()) -> None:
        self.version = "v1"
        self.bad = bad
        self.calls: list[int] = []
        self._decoder = msgspec.json.Decoder(Features)

    def decode(self, raw: msgspec.Raw) -> Features:
        return self._decoder.decode(raw)

    def predict(self, rows: Sequence[Features]) -> list[Answer]:
        self.calls.append(len(rows))
        if any(row.n in self.bad for row in rows):
            raise RuntimeError("secret of a customer")
        return [Answer(2 * row.n) for row in rows]


def request(request_id: str, n: Any = 1, model: str = "doubling", **more: Any) -> bytes:
    return json.dumps({"request_id": request_id, "model": model, "features": {"n": n}, **more}).encode()


def record(
    value: bytes | None,
    key: bytes | None = None,
    *,
    offset: int = 0,
    partition: int = 0,
    headers: Any = None,
    accepted: float = 1_000.0,
) -> Message:
    """A record as the client hands it over, accepted by the broker at `accepted` seconds."""
    return Message(
        topic=REQUESTS,
        partition=partition,
        offset=offset,
        key=key,
        value=value,
        headers=headers,
        timestamp=(TIMESTAMP_LOG_APPEND_TIME, int(accepted * 1000)),
    )


def batch_of(*records: Message) -> PartitionBatch:
    first, last = records[0], records[-1]
    size = sum(len(found) for found in records)
    return PartitionBatch(TP(REQUESTS, first.partition()), first.offset(), last.offset() + 1, list(records), size)


def requests(*numbers: int, partition: int = 0, first: int = 0) -> PartitionBatch:
    """A batch of valid requests, one for each number; the request ids are "partition-offset"."""
    return batch_of(
        *(
            record(request(name, number), name.encode(), offset=offset, partition=partition)
            for offset, number in enumerate(numbers, first)
            for name in [f"{partition}-{offset}"]
        )
    )
