"""Plain Faust as its users know it: `take` a batch, predict, `send` each result."""

import sys

import faust

from benchmarks.cases.task import BATCH, Task

task = Task()
app = faust.App(
    task.group,
    broker="kafka://" + task.settings.kafka_bootstrap_servers,
    consumer_auto_offset_reset="earliest",
    producer_acks=-1,
    producer_linger=0.001,
    producer_max_batch_size=256 * 1024,
    topic_allow_declare=False,
    topic_disable_leader=True,
    web_enabled=False,
    store="memory://",
)
requests = app.topic(task.requests, key_type=bytes, value_type=bytes, value_serializer="raw", key_serializer="raw")
results = app.topic(task.results, key_type=bytes, value_type=bytes, value_serializer="raw", key_serializer="raw")


@app.agent(requests)
async def answer(stream):
    """Answer batches of at most `BATCH` requests, waiting at most 50 ms for one to fill."""
    async for values in stream.take(BATCH, within=0.05):
        for key, value in task.answer(values):
            await results.send(key=key, value=value)


if __name__ == "__main__":
    sys.argv[1:] = ["worker", "-l", "warn"]
    app.main()
