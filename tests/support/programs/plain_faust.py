"""Faust as it is commonly used, with its own driver: one agent in the style that the argument names.

It answers a request by publishing its key to the results, and waits until the broker has acknowledged that. A request
whose features say {"bug": true} makes the agent's body raise; {"sleep": 3} takes that many seconds; {"hold": true} is
never finished. Group, topics and broker are those of the settings in the environment.
"""

import asyncio
import json
import sys
from typing import Any

import faust

from inflight.settings import Settings
from machine_learning_engineering.events.topics import REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import topic_name

STYLE = sys.argv[1]

settings = Settings(_env_file=None)
app = faust.App(
    topic_name(settings, "inflight-worker"),
    broker=f"kafka://{settings.kafka_bootstrap_servers}",
    broker_commit_interval=0.5,
    stream_wait_empty=STYLE != "take-without-wait",
    topic_allow_declare=False,
    topic_disable_leader=True,
    web_enabled=False,
    store="memory://",
    datadir=settings.home / "faust",
)
serializer = "json" if STYLE == "take-json" else "raw"
requests = app.topic(topic_name(settings, REQUESTS), key_type=bytes, value_type=bytes, value_serializer=serializer)
results = app.topic(topic_name(settings, RESULTS), key_type=bytes, value_type=bytes, value_serializer="raw")


async def answer(value: Any) -> None:
    request = json.loads(value) if isinstance(value, bytes) else value
    features = request["features"]
    print("begun", request["request_id"], flush=True)
    if features.get("bug"):
        raise RuntimeError("the body of the agent raised")
    await asyncio.sleep(features.get("sleep", 0))
    await (await results.send(key=request["request_id"].encode(), value=b"{}"))


async def take(stream: Any) -> None:
    async for batch in stream.take(100, within=0.5):
        for value in batch:
            await answer(value)


async def one_by_one(stream: Any) -> None:
    async for value in stream:
        await answer(value)


async def acked_by_hand(stream: Any) -> None:
    async for event in stream.noack().events():
        if json.loads(event.value)["features"].get("hold"):
            kept.append(event)
            continue
        await answer(event.value)
        event.ack()


kept: list[Any] = []
app.agent(requests)({"iterate": one_by_one, "ack-by-hand": acked_by_hand}.get(STYLE, take))

if __name__ == "__main__":
    faust.Worker(app, loglevel="INFO", redirect_stdouts=False).execute_from_commandline()
