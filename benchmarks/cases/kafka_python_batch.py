"""A batch loop over kafka-python: poll, predict, send, flush, commit."""

from kafka import KafkaConsumer, KafkaProducer

from benchmarks.cases.task import BATCH, Task, until_sigterm


def main() -> None:
    """Answer until SIGTERM."""
    task = Task()
    stop = until_sigterm()
    servers = task.settings.kafka_bootstrap_servers
    consumer = KafkaConsumer(
        task.requests,
        bootstrap_servers=servers,
        group_id=task.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_poll_records=BATCH,
    )
    producer = KafkaProducer(
        bootstrap_servers=servers, acks="all", enable_idempotence=True, linger_ms=1, batch_size=256 * 1024
    )
    while not stop:
        found = consumer.poll(timeout_ms=100, max_records=BATCH)
        values = [record.value for records in found.values() for record in records]
        if not values:
            continue
        sent = [producer.send(task.results, value, key) for key, value in task.answer(values)]
        producer.flush()
        for future in sent:
            future.get()
        consumer.commit()
    producer.close()
    consumer.close()


if __name__ == "__main__":
    main()
