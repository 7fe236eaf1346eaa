"""A bare confluent-kafka loop, as a careful engineer writes it: at least once, idempotent, in batches.

Failed deliveries are reported and end the process; every half second it waits for all deliveries, then commits.
"""

import sys
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, Producer

from benchmarks.cases.task import BATCH, Task, until_sigterm
from machine_learning_engineering.kafka.client import client_options, producer_options

COMMIT_SECONDS = 0.5

Answer = Callable[[list[Message]], Iterable[tuple[str, bytes, bytes]]]
"""From the records of a batch to topic, key and value of what is published."""


def _delivered(error: Any, _: Message) -> None:
    if error is not None:
        sys.exit(f"a result was not delivered: {error}")


def main() -> None:
    """Answer until SIGTERM."""
    task = Task()
    topic = task.results
    loop(task, lambda messages: [(topic, *pair) for pair in task.answer(message.value() for message in messages)])


def loop(task: Task, answer: Answer) -> None:
    """Read, answer, publish, commit, until SIGTERM."""
    stop = until_sigterm()
    consumer = Consumer(
        {
            **client_options(task.settings),
            "group.id": task.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 10,
        }
    )
    # Only failures are called back: a callback for each of the others would cost a tenth of the whole.
    options = {"linger.ms": 1, "delivery.report.only.error": True, "on_delivery": _delivered}
    producer = Producer({**producer_options(task.settings), **options})
    consumer.subscribe([task.requests])
    committed, pending = monotonic(), False
    while not stop:
        # consume(n, t) waits for n records or t seconds: so wait for one, then take what else is there.
        messages = consumer.consume(1, 0.05)
        if messages:
            messages += consumer.consume(BATCH - 1, 0)
            for message in messages:
                if message.error() is not None:
                    raise KafkaException(message.error())
            for topic, key, value in answer(messages):
                while True:
                    try:
                        producer.produce(topic, value, key)
                        break
                    except BufferError:
                        producer.poll(0.1)
            pending = True
        producer.poll(0)
        if pending and monotonic() - committed > COMMIT_SECONDS:
            producer.flush()
            consumer.commit(asynchronous=False)
            committed, pending = monotonic(), False
    producer.flush()
    if pending:
        consumer.commit(asynchronous=False)
    consumer.close()


if __name__ == "__main__":
    main()
