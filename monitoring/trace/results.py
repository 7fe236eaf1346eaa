"""Results from their topic: the newest that meet a condition."""

import heapq
from collections.abc import Collection, Iterator

import msgspec

from machine_learning_engineering.events.schemas import PredictionFailed, Result, decode_result
from machine_learning_engineering.events.topics import RESULTS
from machine_learning_engineering.kafka.client import end_offsets, read_to_end
from machine_learning_engineering.settings import KernelSettings

BROKER_SECONDS = 10.0


class NewestResults(msgspec.Struct, frozen=True):
    """The newest results that match, oldest first; how many match; and how many records are no results.

    `matching` is None without a condition: then the topic was not read from its start.
    """

    results: list[Result]
    matching: int | None
    unreadable: int


def newest_results(
    settings: KernelSettings,
    limit: int,
    *,
    model: str | None = None,
    failed: bool = False,
    request_ids: Collection[str] = (),
) -> NewestResults:
    """The newest results, at most `limit`, of a model, failures only, or of some requests.

    Raises:
        TimeoutError: the topic could not be read to its end.
        confluent_kafka.KafkaException: the broker is unreachable.
    """
    # Without a condition the newest records of each partition suffice.
    everything = model is None and not failed and not request_ids
    matching = unreadable = 0

    def read() -> Iterator[tuple[tuple[object, int | None, int | None], Result]]:
        nonlocal matching, unreadable
        for record in read_to_end(settings, RESULTS, last_n=limit if everything else None):
            try:
                result = decode_result(record.value() or b"")
            except (ValueError, RecursionError):
                unreadable += 1
                continue
            if model not in (None, result.model) or (request_ids and result.request_id not in request_ids):
                continue
            if failed and not isinstance(result, PredictionFailed):
                continue
            matching += 1
            yield (result.completed_at, record.partition(), record.offset()), result

    # Fails fast, unlike the reader, which waits longer for a slow broker.
    end_offsets(settings, RESULTS, timeout=BROKER_SECONDS)
    newest = [result for _, result in heapq.nlargest(limit, read(), key=lambda one: one[0])][::-1]
    return NewestResults(newest, None if everything else matching, unreadable)
