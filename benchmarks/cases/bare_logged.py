"""The bare loop with the worker's outputs, results and logs: what these take without Faust, batches and the rest."""

from collections.abc import Iterator
from time import time

from confluent_kafka import Message

from benchmarks.cases.bare import loop
from benchmarks.cases.task import Task
from machine_learning_engineering.events.schemas import PredictionLogged, decode_request, encode
from machine_learning_engineering.events.topics import LOGS
from machine_learning_engineering.kafka.client import topic_name


def main() -> None:
    """Answer and log until SIGTERM."""
    task = Task()
    logs = topic_name(task.settings, LOGS)
    version = task.model.version

    def answer(messages: list[Message]) -> Iterator[tuple[str, bytes, bytes]]:
        started = time()
        requests = [decode_request(message.value()) for message in messages]
        completed = task.complete(requests)
        now = time()
        for message, request, result in zip(messages, requests, completed, strict=True):
            key, accepted = message.key(), message.timestamp()[1] / 1000
            log = PredictionLogged(
                request.request_id,
                request.model,
                "completed",
                request.features,
                result.requested_at,
                result.completed_at,
                result.completed_at,
                max(0.0, started - accepted),
                now - started,
                max(0.0, now - accepted),
                len(messages),
                message.partition(),
                message.offset(),
                version,
                result.prediction,
            )
            yield task.results, key, encode(result)
            yield logs, key, encode(log)

    loop(task, answer)


if __name__ == "__main__":
    main()
