"""The consumer thread, without a broker."""

from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaException

from machine_learning_engineering.events.topics import MEBIBYTE
from stream_app.kafka.poller import MAX_CALL_RECORDS, READ_AHEAD_BYTES, KafkaPoller
from stream_app.serving.batch import TP
from tests.support.request_records import REQUESTS, record


class UnusedListener:
    """Nothing is assigned without a broker."""

    def on_records(self) -> None:
        raise AssertionError("there are no records")

    def on_assigned(self, tps: set[TP]) -> None:
        raise AssertionError("there are no partitions")

    def on_revoked(self, tps: set[TP]) -> dict[TP, int]:
        raise AssertionError("there are no partitions")

    def on_lost(self, tps: set[TP]) -> None:
        raise AssertionError("there are no partitions")

    def on_failed(self, error: BaseException) -> None:
        self.failed = error


@pytest.fixture
def listener() -> UnusedListener:
    return UnusedListener()


@pytest.fixture
def poller(listener: UnusedListener) -> Any:
    options = {"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "log_level": 0}
    poller = KafkaPoller(options, listener, max_records=10, max_bytes=10_000)
    yield poller
    poller.stop()


def test_it_polls_between_two_calls(poller: KafkaPoller) -> None:
    """Each may take half a minute while the broker is unreachable; without polls the worker would look stalled."""
    first, second = poller.call(lambda _: monotonic()), poller.call(lambda _: poller.last_poll)
    poller.start()
    assert second.result(60) > first.result(60)


def test_a_call_that_fails_does_not_end_it(poller: KafkaPoller) -> None:
    """Its error is its caller's."""
    failing = poller.call(lambda consumer: consumer.committed([], timeout="soon"))
    poller.start()
    with pytest.raises((KafkaException, TypeError)):
        failing.result(60)
    assert poller.call(lambda _: "alive").result(60) == "alive"


def test_it_refuses_all_calls_when_it_has_failed(poller: KafkaPoller, listener: UnusedListener) -> None:
    """Those that wait, and later ones: nothing else would ever complete them."""

    def fail() -> None:
        raise RuntimeError("fatal")

    poller._poll = fail  # type: ignore[method-assign]
    waiting = [poller.call(lambda _: "alive") for _ in range(3)]
    poller.start()
    for answer in [*waiting, poller.call(lambda _: "alive")]:
        assert isinstance(answer.exception(60), KafkaException)
    poller.join(60)
    assert str(listener.failed) == "fatal"
    with pytest.raises(KafkaException, match="has ended"):
        poller.call(lambda _: "alive").result(0)


def test_it_refuses_calls_when_it_was_stopped(poller: KafkaPoller) -> None:
    """A query of the offsets may come late."""
    poller.start()
    poller.stop()
    assert isinstance(poller.call(lambda _: "alive").exception(0), KafkaException)


def test_it_ends_when_librdkafka_has_forgotten_all_brokers(listener: UnusedListener) -> None:
    """It would poll for ever and get nothing; the process ends, and the next one connects."""
    # Without bootstrap servers, librdkafka knows no broker from the start.
    options = {"group.id": "g", "log_level": 0}
    poller = KafkaPoller(options, listener, max_records=10, max_bytes=10_000, statistics_interval=0.01)
    poller.start()
    poller.join(60)
    assert type(listener.failed).__name__ == "NoBrokersLeftError"


def test_an_unreachable_broker_does_not_end_it(listener: UnusedListener) -> None:
    """It comes back."""
    options = {"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "log_level": 0}
    poller = KafkaPoller(options, listener, max_records=10, max_bytes=10_000, statistics_interval=0.01)
    poller.start()
    poller.join(1.0)
    assert poller.is_alive()
    poller.stop()


def test_what_the_statistics_raise_comes_out_of_the_poll(listener: UnusedListener) -> None:
    """librdkafka calls back from within it."""

    def refuse(_: dict[str, Any]) -> None:
        raise RuntimeError("refused")

    options = {"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "log_level": 0}
    poller = KafkaPoller(
        options, listener, max_records=10, max_bytes=10_000, on_statistics=refuse, statistics_interval=0.01
    )
    poller.start()
    poller.join(60)
    assert str(listener.failed) == "refused"


class Rebalancing:
    """A client whose records come in several calls, with a rebalance between them."""

    def __init__(self, poller: KafkaPoller, *calls: list[Any]) -> None:
        self.poller, self.calls = poller, list(calls)

    def consume(self, count: int, timeout: float, **_: Any) -> list[Any]:
        found = self.calls.pop(0) if self.calls else []
        if found == ["rebalance"]:
            client: Any = SimpleNamespace(assign=print, resume=print, unassign=print)
            self.poller._revoked(client, [])
            self.poller._assigned(client, [])
            return []
        return found


def test_what_was_collected_before_a_rebalance_is_dropped(poller: KafkaPoller, listener: UnusedListener) -> None:
    """Even if partitions are assigned again in the same poll: they are read again from the committed offset."""
    listener.on_revoked = lambda _: {}  # type: ignore[method-assign]
    listener.on_assigned = listener.on_records = lambda *_: None  # type: ignore[method-assign]
    before, after = record(b"before", offset=7), record(b"after", offset=5)
    poller._fetch = Rebalancing(poller, [before], ["rebalance"])  # type: ignore[assignment]
    poller._poll()
    poller._fetch = Rebalancing(poller, [after])  # type: ignore[assignment]
    poller._poll()
    (batch,) = poller.take({TP(REQUESTS, 0)})
    assert batch.records == [after]


class Backlog:
    """A client that never runs out of records; `asked` holds the counts that it was asked for."""

    def __init__(self, **like: Any) -> None:
        self.like, self.asked = like, []

    def consume(self, count: int, timeout: float, **_: Any) -> list[Any]:
        first = sum(self.asked)
        self.asked.append(count)
        return [record(offset=first + number, **self.like) for number in range(count)]


def poller_of(backlog: Backlog, **bounds: int) -> KafkaPoller:
    listener = UnusedListener()
    listener.on_records = lambda: None  # type: ignore[method-assign]
    poller = KafkaPoller({"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "log_level": 0}, listener, **bounds)
    poller._fetch = backlog  # type: ignore[assignment]
    return poller


def test_few_records_are_made_at_a_time() -> None:
    """Heavy headers of thousands of records would fill the memory before one of them can be refused."""
    backlog = Backlog(value=b"v", headers=[("h", b"")] * 200)
    poller = poller_of(backlog, max_records=1_000, max_bytes=64 * MEBIBYTE)
    poller._poll()
    assert max(backlog.asked) == MAX_CALL_RECORDS
    batches = poller.take({TP(REQUESTS, 0)})
    assert sum(len(batch.records) for batch in batches) == sum(backlog.asked)
    assert all(len(one.headers() or ()) <= 100 for batch in batches for one in batch.records)


def test_small_records_fill_a_poll() -> None:
    """As many as a scoring batch may hold."""
    backlog = Backlog(value=b"v" * 300)
    poller = poller_of(backlog, max_records=4_000, max_bytes=64 * MEBIBYTE)
    poller._poll()
    assert sum(len(batch.records) for batch in poller.take({TP(REQUESTS, 0)})) == sum(backlog.asked) == 4_000


@pytest.mark.parametrize(
    "like",
    [
        {"value": b"v" * 100_000},
        {"value": b"v", "key": b"k" * 16_000},
        {"value": b"v", "headers": [("h", b"h" * 60_000)]},
    ],
    ids=["values", "keys", "headers"],
)
@pytest.mark.parametrize("max_bytes", [MEBIBYTE, 64 * MEBIBYTE])
def test_a_poll_is_bounded_in_bytes(like: dict[str, Any], max_bytes: int) -> None:
    """librdkafka fetches while it is read: a broker that is as fast as the poller would fill the memory."""
    poller = poller_of(Backlog(**like), max_records=4_000, max_bytes=max_bytes)
    poller._poll()
    one = poller.take({TP(REQUESTS, 0)})[0]
    call = MAX_CALL_RECORDS * one.size // len(one.records)
    enough = min(READ_AHEAD_BYTES, max_bytes)
    assert enough <= poller.buffered_bytes <= enough + call
    before = poller.buffered_bytes
    poller._poll()
    assert poller.buffered_bytes - before <= call // MAX_CALL_RECORDS, "enough waits: one record more"
