"""A batch loop over aiokafka: getmany, predict, send, wait for the acknowledgements, commit."""

import asyncio
import signal

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.cases.task import BATCH, Task


async def answer(task: Task) -> None:
    """Answer until cancelled."""
    servers = task.settings.kafka_bootstrap_servers
    consumer = AIOKafkaConsumer(
        task.requests,
        bootstrap_servers=servers,
        group_id=task.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, acks="all", enable_idempotence=True, linger_ms=1, max_batch_size=256 * 1024
    )
    async with consumer, producer:
        while True:
            found = await consumer.getmany(timeout_ms=100, max_records=BATCH)
            values = [record.value for records in found.values() for record in records]
            if not values:
                continue
            sent = [await producer.send(task.results, value, key) for key, value in task.answer(values)]
            await asyncio.gather(*sent)
            await consumer.commit()


async def main() -> None:
    """Answer until SIGTERM."""
    running = asyncio.create_task(answer(Task()))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    await asyncio.wait([running])
    if not running.cancelled():
        running.result()


if __name__ == "__main__":
    asyncio.run(main())
