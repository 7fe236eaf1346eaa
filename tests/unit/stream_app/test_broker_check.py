"""A client that has forgotten all brokers, detected in its statistics."""

import json
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, Producer

from machine_learning_engineering.kafka.broker_check import NoBrokersLeftError, broker_check_options


def statistics(**sources: str) -> str:
    return json.dumps({"brokers": {name: {"source": source} for name, source in sources.items()}})


NONE = statistics(GroupCoordinator="logical")
UNREACHABLE = statistics(GroupCoordinator="logical", bootstrap="configured")
KNOWN = statistics(GroupCoordinator="logical", one="learned")


def test_three_statistics_without_a_broker_are_final() -> None:
    """A group's coordinator has no address of its own."""
    check = broker_check_options()["stats_cb"]
    check(NONE)
    check(NONE)
    with pytest.raises(NoBrokersLeftError):
        check(NONE)


@pytest.mark.parametrize("found", [UNREACHABLE, KNOWN])
def test_a_broker_that_comes_back_into_the_list_is_enough(found: str) -> None:
    """A client may be without one for a moment; and an unreachable broker is still tried."""
    check = broker_check_options()["stats_cb"]
    for one in [NONE, NONE, found] * 5:
        check(one)


# Without bootstrap servers, librdkafka knows no broker from the start, as it does when it has forgotten all.
POLLS = 600


def poll_producer() -> None:
    producer = Producer({"log_level": 0, **broker_check_options(interval=0.05)})
    for _ in range(POLLS):
        producer.poll(0.1)


def consume() -> None:
    consumer = Consumer({"log_level": 0, "group.id": "g", **broker_check_options(interval=0.05)})
    consumer.subscribe(["t"])
    try:
        for _ in range(POLLS):
            consumer.consume(10, 0.1)
    finally:
        consumer.close()


@pytest.mark.parametrize("poll", [poll_producer, consume])
def test_a_client_without_brokers_raises_it_out_of_the_poll(poll: Callable[[], None]) -> None:
    """librdkafka calls back from within it, also while it waits for records."""
    with pytest.raises(NoBrokersLeftError):
        poll()
