"""A FastStream batch subscriber over confluent-kafka; the batch is acknowledged after its results are."""

import asyncio
from typing import Any

from faststream import AckPolicy, FastStream
from faststream.confluent import KafkaBroker, KafkaPublishMessage

from benchmarks.cases.task import BATCH, Task


async def _raw(message: Any) -> Any:
    """The bytes as they are: the task decodes them."""
    return message.body


async def main() -> None:
    """Answer until SIGTERM."""
    task = Task()
    broker = KafkaBroker(
        task.settings.kafka_bootstrap_servers,
        acks="all",
        enable_idempotence=True,
        linger_ms=1,
        allow_auto_create_topics=False,
        apply_types=False,
        logger=None,
        config={"broker.address.family": "v4", "queue.buffering.max.messages": 1_000_000},
    )

    @broker.subscriber(
        task.requests,
        group_id=task.group,
        batch=True,
        max_records=BATCH,
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.NACK_ON_ERROR,
        decoder=_raw,
    )
    async def answer(values: list[bytes]) -> None:
        answers = [KafkaPublishMessage(value, key=key) for key, value in task.answer(values)]
        await broker.publish_batch(*answers, topic=task.results)

    await FastStream(broker, logger=None).run()


if __name__ == "__main__":
    asyncio.run(main())
