"""A scorer for tests, and its outputs for a batch."""

from typing import Any, NamedTuple

from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.schemas import PredictionLogged
from stream_app.serving.outcomes import OutputTopics, ScoredBatch
from stream_app.serving.scorer import Scorer

TOPICS = OutputTopics("results", "logs", "dead-letters")
NOW = 1_010.0
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Clock:
    """A clock that shows the given times, then keeps showing the last one."""

    def __init__(self, *times: float) -> None:
        self.times = list(times)

    def __call__(self) -> float:
        return self.times.pop(0) if len(self.times) > 1 else self.times[0]


def scorer(*models: Any, clock: Any = None, limit: int = 10_000) -> Scorer:
    named = dict(zip(("doubling", "other"), models, strict=False))
    return Scorer(named, TOPICS, max_request_bytes=limit, clock=clock or Clock(NOW))


class Output(NamedTuple):
    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] | None


def outputs_of(scored: ScoredBatch) -> list[Output]:
    return [Output(topic, *record) for topic, records in scored.outputs.items() for record in records]


def on(scored: ScoredBatch, topic: str) -> list[Output]:
    return [output for output in outputs_of(scored) if output.topic == topic]


def results(scored: ScoredBatch) -> list[events.Result]:
    return [events.decode_result(output.value) for output in on(scored, "results")]


def logs(scored: ScoredBatch) -> list[PredictionLogged]:
    return [events.decode_log(output.value) for output in on(scored, "logs")]


def only(scored: list[ScoredBatch]) -> ScoredBatch:
    assert len(scored) == 1
    return scored[0]
