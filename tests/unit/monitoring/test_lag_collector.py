"""What the exporter makes of one reading of the lag after the other."""

import threading
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from inflight.settings import Settings
from machine_learning_engineering.events.topics import LOGS, REQUESTS
from monitoring.exporter import collector as collecting
from monitoring.exporter.collector import LagCollector
from monitoring.exporter.lag import LagReader, Lags, PartitionLag, TopicState
from monitoring.exporter.metrics import ExporterMetrics
from monitoring.runtime.groups import INDEXER

CLOCK = 1_800_000_000.0
Show = Callable[..., None]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def settings() -> Settings:
    """Of a broker that does not exist."""
    return Settings(_env_file=None, kafka_bootstrap_servers="127.0.0.1:1")


@pytest.fixture
def show(registry: CollectorRegistry, settings: Settings) -> Show:
    """`show(now, part, ...)`: export a reading of the indexer's lag on the log."""
    collector = LagCollector(LagReader(settings), ExporterMetrics(registry), threading.Event(), 1.0)

    def of(now: float, *parts: PartitionLag) -> None:
        collector.show(Lags({}, {(INDEXER, LOGS): list(parts)}), now, CLOCK + now)

    return of


@pytest.fixture
def value(registry: CollectorRegistry) -> Callable[[str], float | None]:
    labels = {"group": INDEXER, "topic": LOGS}
    return lambda name: registry.get_sample_value(f"inflight_consumer_{name}", labels)


def part(
    committed: int | None, position: int, high: int, *, low: int = 0, written: float | None = CLOCK, partition: int = 0
) -> PartitionLag:
    return PartitionLag(partition, committed, low, position, high, written if position < high else None)


def test_a_partition_that_stands_still_shows_beside_one_that_moves(show: Show, value: Callable[..., float]) -> None:
    """However few records wait; the sum of the lag does not tell."""
    for step in range(3):
        now = step * 60.0
        show(now, part(5, 5, 6), part(step * 100, step * 100, 1_000, partition=1, written=CLOCK + now))
    assert (value("stalled_seconds"), value("lag_seconds")) == (120.0, 120.0)
    show(200.0, part(6, 6, 6), part(1_000, 1_000, 1_000, partition=1))
    assert (value("lag_records"), value("stalled_seconds"), value("lag_seconds")) == (0, 0, 0)


def test_ends_of_transactions_are_neither_lag_nor_a_stall(show: Show, value: Callable[..., float]) -> None:
    """The topic goes on behind the committed offset, and no record is there."""
    for step in range(3):
        show(step * 3_600.0, part(5, 8, 8))
    assert (value("lag_records"), value("stalled_seconds"), value("lag_seconds")) == (0, 0, 0)
    # The first record after them has waited since it came.
    show(9_000.0, part(5, 8, 9, written=CLOCK + 8_998.0))
    show(9_010.0, part(5, 8, 9, written=CLOCK + 8_998.0))
    assert (value("stalled_seconds"), value("lag_seconds")) == (10.0, 12.0)


@pytest.mark.parametrize("written", [None, CLOCK * 1_000, CLOCK + 60.0, CLOCK / 1_000, -1.0])
def test_a_timestamp_that_cannot_be_is_not_believed(
    show: Show, value: Callable[..., float], written: float | None
) -> None:
    """Of another unit, in the future, or none: then the age is how long the record was seen."""
    show(0.0, part(5, 5, 6, written=written))
    show(30.0, part(5, 5, 6, written=written))
    assert value("lag_seconds") == 30.0


def test_records_that_retention_took_are_counted_once(show: Show, value: Callable[..., float]) -> None:
    """From the first one that waited; not the ends of transactions before it."""
    show(0.0, part(5, 7, 20))
    assert value("expired_records_total") == 0
    show(1.0, part(5, 12, 20, low=12))
    assert value("expired_records_total") == 5
    show(2.0, part(5, 12, 20, low=12))
    show(3.0, part(5, 15, 20, low=15))
    assert value("expired_records_total") == 8
    show(4.0, part(20, 20, 20, low=15))
    show(5.0, part(20, 20, 20, low=20))
    assert value("expired_records_total") == 8


def test_retention_of_what_nobody_could_read_loses_nothing(show: Show, value: Callable[..., float]) -> None:
    """Ends of transactions, on an idle topic; before and after a restart of the exporter."""
    show(0.0, part(5, 8, 8))
    show(1.0, part(5, 8, 8, low=8))
    assert value("expired_records_total") == 0
    show(2.0, part(5, 8, 8, low=8, partition=1))
    assert value("expired_records_total") == 0


def test_records_that_retention_took_while_no_exporter_ran_are_counted(show: Show, value: Callable[..., float]) -> None:
    """Others wait behind them, so the group was behind."""
    show(0.0, part(5, 12, 20, low=12))
    assert value("expired_records_total") == 7


def test_a_group_that_never_committed_says_so(show: Show, value: Callable[..., float]) -> None:
    """It lags by all that is there, and has lost nothing."""
    show(0.0, part(None, 12, 20, low=12), part(3, 3, 3, partition=1))
    assert (value("committed_partitions"), value("lag_records"), value("expired_records_total")) == (1, 8, 0)


def test_an_open_transaction_is_as_old_as_what_it_hides(registry: CollectorRegistry, settings: Settings) -> None:
    """One that ends in time hides nothing for long, although the next one follows."""
    collector = LagCollector(LagReader(settings), ExporterMetrics(registry), threading.Event(), 1.0)
    for now, end, hidden in ((0.0, 10, 5), (60.0, 15, 5), (100.0, 20, 1), (400.0, 20, 900)):
        collector.show(Lags({REQUESTS: TopicState({0: (0, end)}, {0: hidden}, 2)}, {}), now, CLOCK)
    labels = {"topic": REQUESTS}
    assert registry.get_sample_value("inflight_topic_open_transaction_seconds", labels) == 300.0
    assert registry.get_sample_value("inflight_topic_under_replicated_partitions", labels) == 2
    collector.show(Lags({REQUESTS: TopicState({0: (0, 920)}, {0: 0}, 0)}, {}), 401.0, CLOCK)
    assert registry.get_sample_value("inflight_topic_open_transaction_seconds", labels) == 0


@pytest.mark.parametrize("error", [TimeoutError("none"), KeyError("topic"), RuntimeError("a bug")])
def test_a_lag_that_is_not_known_any_more_is_not_shown(
    registry: CollectorRegistry, settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """An old one would look like the present one; and whatever goes wrong, the next reading is tried."""
    monkeypatch.setattr(collecting, "STALE_SECONDS", 0.0)
    stopping, reader = threading.Event(), LagReader(settings)
    answers: list[Lags | Exception] = [Lags({}, {(INDEXER, LOGS): [part(5, 5, 6)]}), error, error]
    shown: list[float | None] = []

    def measure() -> Lags:
        shown.append(registry.get_sample_value("inflight_consumer_lag_records", {"group": INDEXER, "topic": LOGS}))
        answer = answers.pop(0)
        if not answers:
            stopping.set()
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(reader, "measure", measure)
    collector = LagCollector(reader, ExporterMetrics(registry), stopping, 0.01)
    collector.start()
    collector.join(60)
    assert not collector.is_alive()
    assert shown == [None, 1.0, None]
