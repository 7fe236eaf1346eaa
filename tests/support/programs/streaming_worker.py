"""A worker with a model that does as its request says: {"n": 1, "sleep": 0.1}.

Its settings come from the environment, as a real worker's do. Answers {"doubled": 2}. A request with {"bug": true} is a
bug of the worker, one with {"hold": true} is never acknowledged by the broker; with the argument `healthy` neither is.
With {"fatal": true} the consumer thread ends before the request is answered.
"""

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from inflight.settings import Settings
from machine_learning_engineering.observability import logging as service_log
from stream_app.kafka.poller import KafkaPoller
from stream_app.runtime import scheduler
from stream_app.serving.batch import PartitionBatch
from stream_app.serving.outcomes import ScoredBatch
from stream_app.serving.outputs import OutputRecord
from stream_app.worker import Worker


class Features(msgspec.Struct):
    n: int
    sleep: float = 0.0
    """Seconds that the whole call takes because of this row."""
    padding: str = ""
    bug: bool = False
    hold: bool = False
    fatal: bool = False


class Answer(msgspec.Struct):
    doubled: int


class Doubling:
    version = "1"
    _decode = msgspec.json.Decoder(Features)

    def decode(self, raw: msgspec.Raw) -> Features:
        return self._decode.decode(raw)

    def predict(self, rows: Sequence[Features]) -> list[Answer]:
        time.sleep(sum(row.sleep for row in rows))
        if any(row.fatal for row in rows):
            KafkaPoller._poll = fail  # type: ignore[method-assign]
            for thread in threading.enumerate():
                if isinstance(thread, KafkaPoller):
                    thread.join()
        return [Answer(2 * row.n) for row in rows]


def fail(_: KafkaPoller) -> None:
    raise RuntimeError("a fatal error of the client")


def with_bug(score: Any) -> Any:
    """Raise outside of every row's predict, where a request says so."""

    def buggy(batches: Sequence[PartitionBatch]) -> list[ScoredBatch]:
        if any(b'"bug"' in record.value() for batch in batches for record in batch.records):
            raise RuntimeError("a bug that no request may cause")
        scored: list[ScoredBatch] = score(batches)
        return scored

    return buggy


def with_hold(publish: Any) -> Any:
    """Never finish a batch with a request that says so."""

    def holding(outputs: Mapping[str, list[OutputRecord]], partition: int, done: Any) -> None:
        if not any(b'"hold"' in (value or b"") for records in outputs.values() for _, value, _ in records):
            publish(outputs, partition, done)

    return holding


if __name__ == "__main__":
    # The cap loads numeric libraries, which takes seconds; this model needs none.
    scheduler.cap_numeric_threads = lambda: None  # type: ignore[attr-defined]
    settings = Settings(_env_file=None)
    service_log.configure_logging("worker", settings, packages=("stream_app",))
    worker = Worker(settings, {"doubling": Doubling()})
    if sys.argv[1:] != ["healthy"]:
        scorer: Any = worker.scheduler._scorer
        scorer.score = with_bug(scorer.score)
        publisher: Any = worker.publisher
        publisher.publish = with_hold(publisher.publish)
    worker.run()
