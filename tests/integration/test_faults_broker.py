"""A broker that restarts, stays away, or has lost a topic that the worker writes to."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from machine_learning_engineering.kafka import client_options, end_offsets, topic_name
from machine_learning_engineering.topics import DEAD_LETTERS, MEBIBYTE, RESULTS
from producers.replay import Record, Source
from tests.integration.deployment import FULL, Deployment, Supervised, figures, until

pytestmark = pytest.mark.filterwarnings("ignore:.*<socket.socket:pytest.PytestUnraisableExceptionWarning")

EXIT_BUG = 70


@pytest.mark.usefixtures("search")
def test_three_broker_restarts_lose_nothing(deployment: Deployment, broker: Any) -> None:
    """Clean, by kill -9, and clean again, under load: workers and indexer go on by themselves."""
    processes = [deployment.worker(), deployment.worker(), deployment.indexer()]
    deployment.serving(2)
    prefix = deployment.settings.topic_prefix
    load = deployment.load(100_000, rate=400, prefix=prefix)
    recovered = []
    for hard in (False, True, False):
        deployment.answers_more(deployment.results() + 300)
        broker.restart(hard=hard)
        recovered.append(deployment.answers_more(seconds=90))
    load.stop()
    report = load.report()
    deployment.settles(index=True)
    found = deployment.verify(report, repeats=True, prefix=prefix, index=True)
    assert [process.exit_codes for process in processes] == [[], [], []]
    figures(
        requests=found.accepted,
        repeats=found.repeats,
        indeterminate=report.indeterminate,
        recovered_after=[f"{seconds:.1f} s" for seconds in recovered],
    )


def test_a_broker_that_is_away_costs_no_request_and_little_memory(deployment: Deployment, broker: Any) -> None:
    """Killed for a third of a minute (a minute in the full dose): the worker waits and goes on."""
    worker = deployment.worker()
    deployment.serving(1)
    load = deployment.load(100_000, rate=800)
    deployment.answers_more(800)
    before = worker.rss()
    broker.kill()
    growth = _watch(worker, before, 60 if FULL else 20)
    broker.start()
    recovered = deployment.answers_more(seconds=90)
    load.stop()
    report = load.report()
    deployment.settles()
    found = deployment.verify(report, repeats=True)
    assert growth < 64 * MEBIBYTE
    # After the delivery time-out of 60 s the worker may end, and its supervisor starts it again.
    assert FULL or worker.exit_codes == []
    figures(
        requests=found.accepted,
        repeats=found.repeats,
        indeterminate=report.indeterminate,
        recovered_after=f"{recovered:.1f} s",
        growth=f"{growth / MEBIBYTE:.0f} MiB",
        exits=worker.exit_codes,
    )


def _watch(process: Supervised, before: int, seconds: float) -> int:
    """Hold an outage for so long; the growth of the process in bytes."""
    started, largest = time.monotonic(), 0

    def over() -> bool:
        nonlocal largest
        largest = max(largest, process.rss())
        return time.monotonic() - started > seconds

    until(over, seconds + 5, "the outage is over")
    return max(0, largest - before)


@pytest.mark.parametrize("topic", [RESULTS, DEAD_LETTERS])
def test_a_topic_that_is_gone_holds_the_requests_back(deployment: Deployment, topic: str) -> None:
    """Without its topic no outcome is acknowledged: nothing is committed, the worker ends, and the next one answers."""

    def source() -> Iterator[Source]:
        for number, features in enumerate(deployment.diamonds(200)):
            yield features if topic == RESULTS else Record(b"no request", f"bad-{number}".encode())

    patience = {
        "kafka_options": json.dumps({"topic.metadata.propagation.max.ms": "2000"}),
        "worker_delivery_timeout": 8,
    }
    worker = deployment.worker(**patience)
    deployment.serving(1)
    deployment.abandon(worker)
    name = topic_name(deployment.settings, topic)
    admin = AdminClient(client_options(deployment.settings))
    admin.delete_topics([name])[name].result(30)
    until(lambda: not end_offsets(deployment.settings, topic), 30, "the topic is gone")
    report = deployment.load(source()).report()
    ended = until(lambda: not worker.is_alive(), 60, "the worker ends")
    worker.stop()
    assert worker.exit_codes == [EXIT_BUG], worker.log_tail()
    assert deployment.lag()[0] == 200
    deployment.start(worker)
    deployment.settles()
    found = deployment.verify(report, repeats=False)
    assert (found.completed, found.dead_letters) == ((200, 0) if topic == RESULTS else (0, 200))
    figures(topic=topic, ended_after=f"{ended:.1f} s", repeats=found.repeats)
