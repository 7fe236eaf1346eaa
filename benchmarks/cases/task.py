"""What every peer does with a batch: the product's own wire format and the same model, opened from the same registry.

So the cases differ in how they move records, and in nothing else. No peer writes logs, commits by batch, sets bad
records aside or isolates a bad row: they do less work than the worker.
"""

import os
import signal
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from inflight.settings import load_settings
from machine_learning_engineering.core.threads import cap_numeric_threads
from machine_learning_engineering.events.schemas import PredictionCompleted, PredictionRequested, decode_request, encode
from machine_learning_engineering.events.topics import REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import topic_name
from machine_learning_engineering.registry.registry import Registry
from model.diamonds.model import Diamonds

GROUP_VARIABLE = "BENCHMARK_GROUP"
BATCH = 4_096


class Task:
    """Where a peer reads and writes, and how it answers."""

    def __init__(self) -> None:
        self.settings = load_settings()
        self.requests = topic_name(self.settings, REQUESTS)
        self.results = topic_name(self.settings, RESULTS)
        self.group = os.environ[GROUP_VARIABLE]
        self.model = Registry(self.settings.registry_dir).open("diamonds", model_class=Diamonds)
        cap_numeric_threads()

    def answer(self, values: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
        """Key and value of the result of each request, in order; one predict call."""
        results = self.complete([decode_request(value) for value in values])
        return [(result.request_id.encode(), encode(result)) for result in results]

    def complete(self, requests: list[PredictionRequested]) -> list[PredictionCompleted]:
        """The result of each request, in order; one predict call."""
        decode = self.model.decode
        predictions = self.model.predict([decode(request.features) for request in requests])
        now, version, raw = datetime.now(UTC), self.model.version, msgspec.Raw
        return [
            PredictionCompleted(
                request.request_id,
                request.model,
                version,
                raw(encode(prediction)),
                request.requested_at or now,
                now,
            )
            for request, prediction in zip(requests, predictions, strict=True)
        ]


def until_sigterm() -> list[int]:
    """A list that is empty until SIGTERM or SIGINT arrives."""
    arrived: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: arrived.append(number))
    return arrived
