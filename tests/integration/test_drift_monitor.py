"""Drift on a real stream: what is found, and that each row counts once whatever becomes of the drift monitors."""

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from msgspec import Raw

from inflight.settings import Settings
from machine_learning_engineering.events.schemas import (
    DriftDetected,
    DriftMeasured,
    PredictionLogged,
    decode_measurement,
    decode_model_event,
    encode,
)
from machine_learning_engineering.events.topics import DRIFT_STATE, LOGS, MEASUREMENTS, MODEL_EVENTS
from machine_learning_engineering.kafka.client import (
    consumer_options,
    end_offsets,
    producer_options,
    read_to_end,
    topic_name,
)
from machine_learning_engineering.registry.profiles import ProfileCache
from machine_learning_engineering.sdk import MLEModel
from monitoring.drift.batch import read_batch
from monitoring.drift.process import limits
from monitoring.drift.windows import State, Windows
from monitoring.runtime.groups import DRIFT_MONITOR
from tests.support.deployment import Deployment
from tests.support.supervised import Supervised
from tests.support.waiting import until

WINDOW = 700
SMALL: dict[str, Any] = {
    "drift_window_rows": WINDOW,
    "drift_window_seconds": 1e9,
    "drift_rows_per_second": 1e9,
}
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ODD = 99.0
"""A length, in mm, that no diamond has: rows with it can be counted in the measurements."""


class Change(NamedTuple):
    """A feature, by number of the row."""

    field: str
    value: Callable[[int, Any], Any]


class Log:
    """Writes what a worker would, and knows how many rows of which kind it wrote."""

    def __init__(self, deployment: Deployment, model: MLEModel) -> None:
        self._settings = deployment.settings
        self._model = model
        requests = list(deployment.diamonds(50_000))
        random.Random(1).shuffle(requests)
        self._requests = iter(requests)
        self._producer = Producer(producer_options(self._settings))
        self.rows = 0

    def write(self, count: int, change: Change | None = None, partition: int | None = None) -> None:
        """So many rows, over the partitions in turn or to one of them."""
        requests = [dict(features) for features in islice(self._requests, count)]
        for index, features in enumerate(requests):
            if change is not None:
                features[change.field] = change.value(index, features[change.field])
        raw = [msgspec.json.encode(features) for features in requests]
        answers = self._model.predict([self._model.decode(features) for features in raw])
        for index, (features, answer) in enumerate(zip(raw, answers, strict=True)):
            at = START + timedelta(milliseconds=10 * (self.rows + index))
            event = PredictionLogged(
                request_id=f"r{self.rows + index}",
                model="diamonds",
                outcome="completed",
                features=Raw(features),
                requested_at=at,
                accepted_at=at,
                completed_at=at,
                queue_seconds=0.0,
                score_seconds=0.0,
                total_seconds=0.0,
                batch_size=1,
                partition=0,
                offset=0,
                model_version=self._model.version,
                prediction=Raw(msgspec.json.encode(answer)),
            )
            where = index % self._settings.topic_partitions if partition is None else partition
            self._producer.produce(topic_name(self._settings, LOGS), encode(event), partition=where)
        assert self._producer.flush(60) == 0
        self.rows += count


@pytest.fixture
def log(deployment: Deployment, diamonds: MLEModel) -> Log:
    return Log(deployment, diamonds)


@pytest.fixture
def drift_monitor(deployment: Deployment) -> Callable[[], Supervised]:
    """`drift_monitor()` launches another monitor, with small windows that only their rows close, and no budget."""
    return lambda: deployment.drift_monitor(**SMALL)


def measured(settings: Settings) -> list[DriftMeasured]:
    """The windows that were committed, in the order of the topic."""
    found = [decode_measurement(message.value() or b"") for message in read_to_end(settings, MEASUREMENTS)]
    return [one for one in found if isinstance(one, DriftMeasured)]


def detected(settings: Settings) -> list[tuple[bytes | None, DriftDetected]]:
    """The events of drift, with their keys."""
    found = [(m.key(), decode_model_event(m.value() or b"")) for m in read_to_end(settings, MODEL_EVENTS)]
    return [(key, event) for key, event in found if isinstance(event, DriftDetected)]


def states(settings: Settings) -> dict[bytes | None, State]:
    """The last state of each partition."""
    return {m.key(): msgspec.json.decode(m.value() or b"", type=State) for m in read_to_end(settings, DRIFT_STATE)}


@pytest.fixture
def all_read(deployment: Deployment) -> Iterator[Callable[[], bool]]:
    """Whether the drift monitors have committed everything."""
    settings = deployment.settings
    consumer = Consumer(consumer_options(settings, DRIFT_MONITOR))
    name = topic_name(settings, LOGS)

    def check() -> bool:
        ends = {partition: high for partition, (_, high) in end_offsets(settings, LOGS).items() if high}
        committed = consumer.committed([TopicPartition(name, partition) for partition in ends], timeout=20)
        return all(one.offset == ends[one.partition] for one in committed)

    yield check
    consumer.close()


def odd(index: int, value: Any) -> Any:
    return ODD if index % 5 == 0 else value


def count_odd(windows: Sequence[DriftMeasured], open_windows: Sequence[Windows]) -> int:
    """Rows with the odd length, in windows that were measured and in those that are open."""
    rates = [(one.rows, field) for one in windows for field in one.fields if field.field == "features.x"]
    assert len(rates) == len(windows)
    total = sum(round(rows * field.out_of_range_rate) for rows, field in rates)
    for window in open_windows:
        for closed in window.overdue(datetime(9999, 1, 1, tzinfo=UTC)):
            total += closed.counts.features["x"].counts[-1]  # type: ignore[union-attr]
    return total


def test_a_clean_stream_raises_no_alarm_and_a_shifted_one_names_the_field(
    deployment: Deployment, log: Log, drift_monitor: Callable[[], Supervised], all_read: Callable[[], bool]
) -> None:
    """Carats in grams: a measurement and an event in the first window that has them, and figures for Prometheus."""
    settings, process = deployment.settings, drift_monitor()
    log.write(5 * WINDOW)
    until(all_read, 300, "the clean rows are read")
    clean = measured(settings)
    assert [(one.rows, one.closed_by) for one in clean] == [(WINDOW, "count")] * 5
    assert [field.field for one in clean for field in one.fields if field.drifted] == []
    assert detected(settings) == []
    log.write(WINDOW, Change("carat", lambda _, carat: carat * 0.2))
    until(all_read, 300, "the shifted rows are read")
    ((key, event),) = detected(settings)
    assert key == b"drift.detected.v1/diamonds"
    assert "features.carat" in {field.field for field in event.fields}
    assert event.window_id == measured(settings)[-1].window_id
    assert event.rows == WINDOW
    until(lambda: process.metric("inflight_drift_windows_total", result="drifted") == 1, 120, "the metrics tell")
    assert process.metric("inflight_drift_windows_total", result="clean") == 5
    assert process.metric("inflight_drift_psi", field="features.carat") > 0.25
    assert process.metric("inflight_drift_drifted_windows", field="features.carat") == 1
    assert process.metric("inflight_drift_drifted_windows", field="features.table") == 0
    assert process.metric("inflight_drift_rows_total", result="counted") == 6 * WINDOW
    deployment.stop(process)
    # Whoever comes next knows of the drift at once, and goes on counting.
    heir = drift_monitor()
    until(heir.serves, 300, "another drift monitor owns the partitions")
    assert heir.metric("inflight_drift_drifted_windows", field="features.carat") == 1
    log.write(WINDOW, Change("carat", lambda _, carat: carat * 0.2))
    until(all_read, 300, "more shifted rows are read")
    consecutive_windows = "inflight_drift_drifted_windows"
    until(
        lambda: heir.metric(consecutive_windows, field="features.carat") == 2, 120, "it is the second window in a row"
    )


def test_killed_in_the_middle_of_windows_it_measures_the_same_ones(
    deployment: Deployment,
    log: Log,
    drift_monitor: Callable[[], Supervised],
    all_read: Callable[[], bool],
    models: Settings,
    chance: random.Random,
) -> None:
    """kill -9 at any moment: the windows of the topic are those of somebody who reads it in one go, ids included."""
    settings, process = deployment.settings, drift_monitor()
    until(process.serves, 300, "the drift monitor owns the partitions")
    for _ in range(4):
        log.write(600 + chance.randrange(600), Change("x", odd), partition=0)
        # At any moment of fetching, counting and committing.
        until(lambda: chance.random() < 0.2, 120, "a moment")
        deployment.kill(process)
    log.write(300, partition=0)
    until(all_read, 300, "all rows are read")
    oracle = Windows(ProfileCache(models.registry_dir), limits(settings.model_copy(update=SMALL)))
    expected = oracle.add(read_batch(list(read_to_end(settings, LOGS))))
    found = measured(settings)
    assert [(one.window_id, one.rows) for one in found] == [(one.window_id, one.rows) for one in expected]
    assert len(found) == log.rows // WINDOW
    assert states(settings)[b"0"].parts == oracle.state(0).parts


def test_monitors_come_and_go_and_each_row_counts_once(
    deployment: Deployment,
    log: Log,
    drift_monitor: Callable[[], Supervised],
    all_read: Callable[[], bool],
    models: Settings,
) -> None:
    """Two share the partitions, one is killed, another one is stopped: open windows go to who gets the partition."""
    settings = deployment.settings
    first = drift_monitor()
    until(first.serves, 300, "the first owns the partitions")
    log.write(1_000, Change("x", odd))
    second = drift_monitor()
    until(second.serves, 300, "the second owns some of them")
    log.write(1_500, Change("x", odd))
    deployment.kill(first)
    log.write(1_500, Change("x", odd))
    until(lambda: first.serves() and second.serves(), 300, "both own partitions again")
    log.write(1_000, Change("x", odd))
    deployment.stop(second)
    log.write(1_000, Change("x", odd))
    until(all_read, 300, "all rows are read")
    windows = measured(settings)
    last = states(settings)
    assert sum(one.rows for one in windows) + sum(part.rows for one in last.values() for part in one.parts) == log.rows
    assert len({one.window_id for one in windows}) == len(windows) >= 4
    left = Windows(ProfileCache(models.registry_dir), limits(settings.model_copy(update={"drift_window_min_rows": 1})))
    for key, state in last.items():
        left.restore(int(key or b""), state)
    assert count_odd(windows, [left]) == log.rows / 5
