"""Exports the lag of all consumer groups, the state of the topics, and their retention."""

import threading
from collections.abc import Callable
from time import monotonic, time
from typing import TypeVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from machine_learning_engineering.kafka.client import client_options, topic_name
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.settings import KernelSettings
from monitoring.exporter.lag import TOPICS, LagReader, Lags, PartitionLag
from monitoring.exporter.metrics import ExporterMetrics

STALE_SECONDS = 30.0
"""A lag that could not be read for longer is no longer exported: it must not be mistaken for the current one."""
RETENTION_SECONDS = 300.0
"""Interval at which the retention of the topics is read."""
MAX_AGE_SECONDS = 366 * 86_400.0
"""Above this age, a record's timestamp is taken for a mistake, as is one in the future."""

_Key = tuple[str, str, int]
_K = TypeVar("_K")
_V = TypeVar("_V")


class LagCollector(threading.Thread):
    """Exports the lag every few seconds, in a thread: a slow broker must not block the counting.

    Args:
        retention: reads the retention of the topics in seconds, see `read_retention`.
    """

    def __init__(
        self,
        reader: LagReader,
        metrics: ExporterMetrics,
        stopping: threading.Event,
        every: float,
        retention: Callable[[], dict[str, float]] = dict,
    ) -> None:
        super().__init__(name="inflight-lag", daemon=True)
        self._reader = reader
        self._metrics = metrics
        self._stopping = stopping
        self._every = every
        self._retention = retention
        self._retention_due = 0.0
        self._retention_known = True
        self._read_at = monotonic()
        self._before: dict[_Key, PartitionLag] = {}
        # Since when the committed offset, or the end of what is readable, has been where it is.
        self._waiting_since: dict[_Key, tuple[int | None, float]] = {}
        self._hidden_since: dict[tuple[str, int], tuple[int, float]] = {}
        metrics.lag_checked.set_function(lambda: monotonic() - self._read_at)

    def run(self) -> None:
        failing = False
        while not self._stopping.is_set():
            try:
                lags = self._reader.measure()
            except Exception as error:  # whatever it is, this thread has to go on
                if not failing:
                    log_event("exporter", "lag_unknown", error=str(error))
                failing = True
                if monotonic() - self._read_at > STALE_SECONDS:
                    self._metrics.forget_lag()
                self._reader.reconnect()
            else:
                failing = False
                self._read_at = monotonic()
                self.show(lags, self._read_at, time())
                if self._read_at >= self._retention_due:
                    self._retention_due = self._read_at + RETENTION_SECONDS
                    self._show_retention()
            self._stopping.wait(self._every)
        self._reader.close()

    def show(self, lags: Lags, now: float, clock: float) -> None:
        """Export one reading, made at `now` (monotonic) and `clock` (since the epoch), in seconds."""
        metrics = self._metrics
        for (group, topic), parts in lags.groups.items():
            age = stalled = 0.0
            for part in parts:
                key = group, topic, part.partition
                waiting = self._waiting(key, part, now)
                stalled = max(stalled, waiting)
                age = max(age, _age(part, waiting, clock))
                if expired := _expired(part, self._before.get(key)):
                    metrics.expired.labels(group, topic).inc(expired)
                self._before[key] = part
            metrics.lag.labels(group, topic).set(sum(part.records for part in parts))
            metrics.lag_age.labels(group, topic).set(age)
            metrics.stalled.labels(group, topic).set(stalled)
            metrics.committed.labels(group, topic).set(sum(part.committed is not None for part in parts))
        for topic, state in lags.topics.items():
            hidden = [
                self._hidden(topic, number, state.hidden[number], state.ends[number][1], now) for number in state.ends
            ]
            metrics.open_transaction.labels(topic).set(max(hidden, default=0.0))
            metrics.under_replicated.labels(topic).set(state.under_replicated)

    def _waiting(self, key: _Key, part: PartitionLag, now: float) -> float:
        """Seconds for which records have waited while nothing was committed."""
        if not part.records:
            self._waiting_since.pop(key, None)
            return 0.0
        return _unchanged(self._waiting_since, key, part.committed, now)

    def _hidden(self, topic: str, partition: int, hidden: int, end: int, now: float) -> float:
        """Seconds for which an open transaction has hidden records of a partition."""
        if not hidden:
            self._hidden_since.pop((topic, partition), None)
            return 0.0
        return _unchanged(self._hidden_since, (topic, partition), end, now)

    def _show_retention(self) -> None:
        try:
            found = self._retention()
        except KafkaException as error:
            if self._retention_known:
                cause = "an alert on the approach of retention is impossible"
                log_event("exporter", "retention_unknown", cause=cause, error=str(error))
            self._retention_known = False
            return
        self._retention_known = True
        self._metrics.retention.clear()
        for topic, seconds in found.items():
            self._metrics.retention.labels(topic).set(seconds)


def _unchanged(since: dict[_K, tuple[_V, float]], key: _K, value: _V, now: float) -> float:
    """Seconds for which a value has been the same; `since` holds each with the time at which it became that."""
    before, began = since.get(key, (value, now))
    if before != value:
        began = now
    since[key] = value, began
    return now - began


def _age(part: PartitionLag, waiting: float, clock: float) -> float:
    """Seconds since the first record that waits was written; if its timestamp is not credible, since it was seen."""
    if not part.records:
        return 0.0
    age = -1.0 if part.timestamp is None else clock - part.timestamp
    return age if 0.0 <= age <= MAX_AGE_SECONDS else waiting


def _expired(part: PartitionLag, before: PartitionLag | None) -> int:
    """Records that the topic's retention has deleted since the last reading, before the group read them."""
    if part.committed is None or part.committed >= part.low:
        return 0
    if before is not None:
        # From the first record that waited then: before it there were only ends of transactions.
        return max(0, part.low - max(part.committed, before.position))
    # The first reading. An idle topic may have held nothing but the ends of transactions behind the committed offset.
    return part.low - part.committed if part.records else 0


def read_retention(settings: KernelSettings, timeout: float = 10.0) -> dict[str, float]:
    """The `retention.ms` of each topic that deletes records by age, in seconds.

    Raises:
        KafkaException: the broker is unreachable, or denies access to the configuration of topics.
    """
    names = {topic_name(settings, topic): topic for topic in TOPICS}
    admin = AdminClient(client_options(settings))
    asked = admin.describe_configs(
        [ConfigResource(ResourceType.TOPIC, name) for name in names], request_timeout=timeout
    )
    found = {}
    for resource, future in asked.items():
        config = future.result()
        milliseconds = float(config["retention.ms"].value)
        if milliseconds > 0 and "delete" in config["cleanup.policy"].value:
            found[names[resource.name]] = milliseconds / 1_000
    return found
