"""The drift monitor on each kind of broker: its transactions, its states, and what happens without them."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from msgspec import Raw
from prometheus_client import CollectorRegistry

from inflight.settings import Settings
from machine_learning_engineering.drift.binning import reference_profile
from machine_learning_engineering.events.schemas import PredictionLogged, encode
from machine_learning_engineering.events.topics import DRIFT_STATE, LOGS
from machine_learning_engineering.kafka.client import consumer_options, producer_options, read_to_end, topic_name
from machine_learning_engineering.registry.profiles import Reference
from monitoring.drift import process as process_module
from monitoring.drift.history import last_windows
from monitoring.drift.metrics import DriftMonitorMetrics
from monitoring.drift.process import DriftMonitor
from monitoring.drift.state import TIMEOUT, StateReader, state_key
from monitoring.drift.windows import State
from monitoring.runtime.groups import DRIFT_MONITOR

pytestmark = pytest.mark.usefixtures("each_broker")


class Features(msgspec.Struct, frozen=True):
    number: float


class Model:
    Features = Features


ROWS = [{"number": float(number % 100)} for number in range(1_000)]
PROFILE = reference_profile(Model, ROWS, [{"double": 2.0 * row["number"]} for row in ROWS])  # type: ignore[arg-type]


class Known:
    """ProfileCache with one version."""

    missing: tuple[Any, ...] = ()

    def get(self, model: str, version: str) -> Reference | None:
        return Reference(PROFILE, "d") if (model, version) == ("numbers", "v1") else None


class Run:
    """A drift monitor in a thread of this process."""

    def __init__(self, settings: Settings, kind: type[DriftMonitor] = DriftMonitor) -> None:
        self.registry = CollectorRegistry()
        self._stopping = threading.Event()
        self._monitor = kind(settings, Known(), DriftMonitorMetrics(self.registry), self._stopping)  # type: ignore[arg-type]
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._monitor.run()
        except BaseException as error:
            self._error = error

    def stop(self) -> None:
        """As SIGTERM does."""
        self._stopping.set()
        self._thread.join(300)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error


@contextmanager
def running(settings: Settings, kind: type[DriftMonitor] = DriftMonitor) -> Iterator[Run]:
    run = Run(settings, kind)
    try:
        yield run
    finally:
        run.stop()


@pytest.fixture
def small(settings: Settings) -> Settings:
    """Windows of 100 rows that only rows can close."""
    changes = {"drift_window_rows": 100, "drift_window_seconds": 1e9, "drift_rows_per_second": 1e9}
    return settings.model_copy(update=changes)


class Waiting(DriftMonitor):
    """Its broker takes a while until it answers a fetch: what was assigned is read only after some idle steps."""

    _idle = 3

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        super()._on_assign(consumer, partitions)
        consumer.pause(partitions)

    def _step(self) -> None:
        super()._step()
        if self._owned and self._idle:
            self._idle -= 1
            if not self._idle:
                self._consumer.resume(self._consumer.assignment())


def publish(
    settings: Settings,
    count: int,
    *,
    factor: float = 1.0,
    version: str = "v1",
    rubbish: int = 0,
    transaction: bool = False,
) -> None:
    """So many rows over two partitions, and records that are no logs."""
    at = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    options = {"transactional.id": f"rows-{uuid4().hex}", "delivery.timeout.ms": 30_000} if transaction else {}
    producer = Producer({**producer_options(settings), **options})
    if transaction:
        producer.init_transactions(120)
        producer.begin_transaction()
    for number in range(count):
        value = float(number * 37 % 100) * factor
        event = PredictionLogged(
            request_id=f"r{number}",
            model="numbers",
            outcome="completed",
            features=Raw(msgspec.json.encode({"number": value})),
            requested_at=at,
            accepted_at=at,
            completed_at=at,
            queue_seconds=0.0,
            score_seconds=0.0,
            total_seconds=0.0,
            batch_size=1,
            partition=0,
            offset=0,
            model_version=version,
            prediction=Raw(msgspec.json.encode({"double": 2 * value})),
        )
        producer.produce(topic_name(settings, LOGS), encode(event), partition=number % 2)
    for _ in range(rubbish):
        producer.produce(topic_name(settings, LOGS), b"rubbish", partition=0)
    if transaction:
        producer.commit_transaction(120)
    assert producer.flush(120) == 0


def eventually(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)


def states(settings: Settings) -> dict[bytes | None, State]:
    return {m.key(): msgspec.json.decode(m.value() or b"", type=State) for m in read_to_end(settings, DRIFT_STATE)}


def open_rows(settings: Settings) -> int:
    """Rows of the open windows, as they were committed."""
    return sum(part.rows for state in states(settings).values() for part in state.parts)


def test_a_window_is_filled_by_one_process_and_closed_by_the_next(small: Settings) -> None:
    """After a clean stop; what can't be used is counted, and the window is found by whoever asks for it."""
    publish(small, 70, rubbish=3)
    with running(small):
        eventually(lambda: open_rows(small) == 70)
    assert last_windows(small, "numbers", 5) == []
    publish(small, 40)
    publish(small, 20, version="v9")
    with running(small) as second:
        eventually(lambda: len(last_windows(small, "numbers", 5)) == 1)
        rows = "inflight_drift_rows_total"
        eventually(lambda: second.registry.get_sample_value(rows, {"result": "no_profile"}) == 20)
        assert second.registry.get_sample_value(rows, {"result": "counted"}) == 40
    (window,) = last_windows(small, "numbers", 5)
    assert (window.rows, window.closed_by, window.model_version) == (100, "count", "v1")
    assert [field.field for field in window.fields if field.drifted] == []
    assert open_rows(small) == 10
    assert last_windows(small, "other", 5) == []


def test_a_drifted_window_is_told(small: Settings) -> None:
    """With every field that drifted; of many windows the newest are shown."""
    publish(small, 300)
    publish(small, 100, factor=50.0)
    with running(small):
        eventually(lambda: len(last_windows(small, "numbers", 9)) == 4)
    window = last_windows(small, "numbers", 1)[0]
    assert {field.field for field in window.fields if field.drifted} == {"features.number", "predictions.double"}


def test_without_its_state_it_goes_on_behind_what_was_committed(
    small: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the topic of states was deleted: the rows of the open window are lost, and nothing else."""
    monkeypatch.setattr(process_module, "TIMEOUT", 1.0)
    publish(small, 60)
    with running(small):
        eventually(lambda: open_rows(small) == 60)
    producer = Producer(producer_options(small))
    for partition in (0, 1):
        stray = msgspec.json.encode(State(5, [], []))
        producer.produce(topic_name(small, DRIFT_STATE), stray, key=state_key(partition), partition=partition)
    assert producer.flush(120) == 0
    publish(small, 100)
    with running(small):
        eventually(lambda: len(last_windows(small, "numbers", 9)) == 1)
    assert last_windows(small, "numbers", 9)[0].rows == 100


def test_a_state_far_from_the_end_of_its_topic_is_found(small: Settings) -> None:
    """Where a partition of that topic has the states of many partitions, and one of them had no rows for long."""
    producer = Producer(producer_options(small))
    topic = topic_name(small, DRIFT_STATE)
    producer.produce(topic, msgspec.json.encode(State(7, [], [])), key=state_key(1), partition=1)
    for number in range(500):
        producer.produce(topic, msgspec.json.encode(State(number, [], [])), key=state_key(5), partition=1)
    assert producer.flush(120) == 0
    reader = StateReader(small)
    try:
        until = time.monotonic() + TIMEOUT
        assert reader.read(1, 7, until) == State(7, [], [])
        assert reader.read(5, 499, until) == State(499, [], [])
    finally:
        reader.close()


def test_a_log_that_began_anew_is_read_from_its_start(small: Settings) -> None:
    """A topic that was deleted and made again has fewer records than were committed."""
    consumer = Consumer(consumer_options(small, DRIFT_MONITOR))
    consumer.commit(offsets=[TopicPartition(topic_name(small, LOGS), 0, 5_000)], asynchronous=False)
    consumer.close()
    publish(small, 200)
    with running(small):
        eventually(lambda: len(last_windows(small, "numbers", 9)) == 2)


IN_A_ROW = {"model": "numbers", "model_version": "v1", "field": "features.number"}


def test_a_version_that_is_over_drifts_no_more_after_a_restart(small: Settings) -> None:
    """It was replaced months ago. Of one that is under way the next process knows."""
    publish(small, 200, factor=50.0)
    consecutive_windows = "inflight_drift_drifted_windows"
    with running(small) as first:
        eventually(lambda: first.registry.get_sample_value(consecutive_windows, IN_A_ROW) == 2)
    owned = "inflight_drift_monitor_assigned_partitions"
    with running(small) as heir:
        eventually(lambda: bool(heir.registry.get_sample_value(owned)))
        assert heir.registry.get_sample_value(consecutive_windows, IN_A_ROW) == 2
    with running(small.model_copy(update={"drift_window_seconds": 3_600.0})) as late:
        eventually(lambda: bool(late.registry.get_sample_value(owned)))
        assert late.registry.get_sample_value(consecutive_windows, IN_A_ROW) is None


@pytest.mark.parametrize("idle_pause", [0.0, 0.2])
def test_a_window_is_not_over_while_rows_of_its_time_wait(small: Settings, idle_pause: float) -> None:
    """However long the drift monitor was stopped: the backlog gives the window that the stream would have given."""
    publish(small, 60)
    with running(small):
        eventually(lambda: open_rows(small) == 60)
    publish(small, 40)
    changes = {"drift_window_seconds": 3_600.0, "drift_window_min_rows": 50, "kafka_idle_pause": idle_pause}
    with running(small.model_copy(update=changes), Waiting):
        eventually(lambda: len(last_windows(small, "numbers", 5)) == 1)
    (window,) = last_windows(small, "numbers", 5)
    assert (window.rows, window.closed_by) == (100, "count")


def test_a_window_is_over_at_the_end_of_a_log_that_ends_with_a_transaction(small: Settings) -> None:
    """Nobody can read its marker, and nobody waits for that."""
    publish(small, 60, transaction=True)
    settings = small.model_copy(update={"drift_window_seconds": 3_600.0, "drift_window_min_rows": 50})
    with running(settings):
        eventually(lambda: len(last_windows(small, "numbers", 5)) == 1)
    (window,) = last_windows(small, "numbers", 5)
    assert (window.rows, window.closed_by) == (60, "time")
