"""A broker that restarts, stays away, or has lost a topic that the worker writes to."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from machine_learning_engineering.events.topics import DEAD_LETTERS, MEBIBYTE, RESULTS
from machine_learning_engineering.kafka.client import topic_name
from producers.request_builder import Record, Source
from tests.support.deployment import UNTIL_STOPPED, Deployment
from tests.support.doses import FULL
from tests.support.durability import needs_durable_nodes
from tests.support.supervised import Supervised
from tests.support.topics import delete_topic
from tests.support.waiting import figures, until

EXIT_BUG = 70
EXIT_UNAVAILABLE = 2
AWAY_SECONDS = 60 if FULL else 16


@needs_durable_nodes
@pytest.mark.timeout(2_400)
@pytest.mark.usefixtures("search")
def test_a_broker_that_goes_three_times_loses_nothing(deployment: Deployment, broker: Any) -> None:
    """Restarted cleanly, killed and away for a quarter of a minute (a minute in the full dose), and restarted again.

    Under load. Workers and indexer wait in bounded memory and go on by themselves.
    """
    workers, indexer = [deployment.worker(), deployment.worker()], deployment.indexer()
    deployment.serving(2)
    prefix = deployment.settings.topic_prefix
    load = deployment.load(UNTIL_STOPPED, rate=400 if FULL else 200, prefix=prefix)
    recovered, growth = [], 0
    for killed in (False, True, False):
        deployment.answers_more(300)
        if killed:
            before = workers[0].rss()
            broker.kill()
            growth = _watch(workers[0], before, AWAY_SECONDS)
            broker.start()
        else:
            broker.restart()
        recovered.append(deployment.answers_more())
    load.stop()
    report = load.report()
    # Longer than the delivery time-out, after which a worker that got no acknowledgement ends.
    deployment.settles(index=True, seconds=500)
    found = deployment.verify(report, repeats=True, prefix=prefix, index=True)
    assert growth < 64 * MEBIBYTE
    # After its delivery time-out, or where it stands still, a worker ends, and its supervisor starts it again.
    assert {code for worker in workers for code in worker.exit_codes} <= {EXIT_BUG}
    # An indexer whose client has forgotten all brokers ends too, and is started again.
    assert set(indexer.exit_codes) <= {EXIT_UNAVAILABLE}
    figures(
        requests=found.accepted,
        repeats=found.repeats,
        indeterminate=report.indeterminate,
        recovered_after=[f"{seconds:.1f} s" for seconds in recovered],
        growth=f"{growth / MEBIBYTE:.0f} MiB",
        exits=[process.exit_codes for process in workers],
    )


def _watch(process: Supervised, before: int, seconds: float) -> int:
    """Hold an outage for so long; the growth of the process in bytes."""
    started, largest = time.monotonic(), 0

    def over() -> bool:
        nonlocal largest
        largest = max(largest, process.rss())
        return time.monotonic() - started > seconds

    until(over, seconds + 120, "the outage is over")
    return max(0, largest - before)


@pytest.mark.needs_real(reason="the embedded broker makes a deleted topic again as soon as somebody asks for it")
@pytest.mark.parametrize("topic", [RESULTS, DEAD_LETTERS])
def test_a_topic_that_is_gone_holds_the_requests_back(deployment: Deployment, topic: str) -> None:
    """Without its topic no outcome is acknowledged: nothing is committed, the worker ends, and the next one answers."""

    def source() -> Iterator[Source]:
        for number, features in enumerate(deployment.diamonds(200)):
            yield features if topic == RESULTS else Record(b"no request", f"bad-{number}".encode())

    patience = {
        "kafka_options": json.dumps({"topic.metadata.propagation.max.ms": "2000"}),
        "kafka_delivery_timeout": 8,
    }
    worker = deployment.worker(**patience)
    deployment.serving(1)
    deployment.abandon(worker)
    delete_topic(deployment.settings, topic_name(deployment.settings, topic))
    report = deployment.load(source()).report()
    ended = until(lambda: not worker.is_alive(), 300, "the worker ends")
    worker.stop()
    assert worker.exit_codes == [EXIT_BUG], worker.log_tail()
    assert deployment.lag()[0] == 200
    deployment.start(worker)
    deployment.settles()
    found = deployment.verify(report, repeats=False)
    assert (found.completed, found.dead_letters) == ((200, 0) if topic == RESULTS else (0, 200))
    figures(topic=topic, ended_after=f"{ended:.1f} s", repeats=found.repeats)
