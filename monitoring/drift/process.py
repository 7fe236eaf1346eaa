"""`inflight drift-monitor`: compares the prediction log with the training data of each version, window by window.

Measurements, the state of the open windows and the offsets it covers are one Kafka transaction. Each row therefore
counts in exactly one window, whichever process is killed, and readers of committed records (the default of librdkafka)
see each window once.
"""

import gc
import threading
from datetime import UTC, datetime, timedelta
from time import monotonic, time
from uuid import uuid4

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, Producer, TopicPartition
from prometheus_client import CollectorRegistry

from machine_learning_engineering.events.schemas import DriftMeasured, encode
from machine_learning_engineering.events.topics import DRIFT_STATE, LOGS, MAX_MESSAGE_BYTES, MEASUREMENTS, MODEL_EVENTS
from machine_learning_engineering.kafka.client import client_options, partition_ends, topic_name
from machine_learning_engineering.kafka.idle import IdlePausingConsumer
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.registry.profiles import ProfileCache
from monitoring.drift.batch import read_batch
from monitoring.drift.measurement import drift_detected, measure
from monitoring.drift.metrics import DriftMonitorMetrics, DriftSeries
from monitoring.drift.state import TIMEOUT, StateReader, state_key
from monitoring.drift.stream_time import stream_time
from monitoring.drift.windows import ClosedWindow, Limits, State, Windows
from monitoring.runtime.consumer import GroupConsumer, group_options, records
from monitoring.runtime.groups import DRIFT_MONITOR
from monitoring.runtime.process import run_process
from monitoring.runtime.retry import Retry, run_until_ready
from monitoring.runtime.topics import prepare_topics
from monitoring.settings import DriftMonitorSettings

_NAME = "drift-monitor"
_WRITES = (MEASUREMENTS, MODEL_EVENTS, DRIFT_STATE)
BATCH = 4_000
LINGER = 0.5
"""Seconds to wait for a full batch: counting many rows at once is cheap, and windows are not urgent."""
COMMIT_SECONDS = 2.0
TRANSACTION_SECONDS = 10.0
"""The time-out of a transaction. A process killed within one blocks readers of its topics until it expires."""
_SHOW_SECONDS = 2.0
_MAX_REPORTED = 20


def limits(settings: DriftMonitorSettings) -> Limits:
    """When windows close, by the settings. The partitions share `drift_rows_per_second`."""
    return Limits(
        rows=settings.drift_window_rows,
        period=timedelta(seconds=settings.drift_window_seconds),
        min_rows=min(settings.drift_window_min_rows, settings.drift_window_rows),
        rows_per_second=settings.drift_rows_per_second / settings.topic_partitions,
    )


class DriftMonitor:
    """Consumes, counts and publishes, all in one thread."""

    def __init__(
        self,
        settings: DriftMonitorSettings,
        references: ProfileCache,
        metrics: DriftMonitorMetrics,
        stopping: threading.Event,
    ) -> None:
        self._settings = settings
        self._references = references
        self._metrics = metrics
        self._series = DriftSeries(metrics, 2 * settings.drift_window_seconds)
        self._windows = Windows(references, limits(settings))
        self._measured: list[tuple[DriftMeasured, dict[str, int]]] = []
        self._logs = topic_name(settings, LOGS)
        self._consumer = GroupConsumer(group_options(settings, DRIFT_MONITOR), _NAME, metrics.consumer)
        self._fetch = IdlePausingConsumer(self._consumer, settings.kafka_idle_pause, patient=True)
        self._states = StateReader(settings)
        self._producer = Producer(
            {
                **client_options(settings),
                "transactional.id": f"{topic_name(settings, DRIFT_MONITOR)}-{uuid4().hex}",
                "transaction.timeout.ms": int(TRANSACTION_SECONDS * 1000),
                "delivery.timeout.ms": int(TRANSACTION_SECONDS * 1000),
                "message.max.bytes": MAX_MESSAGE_BYTES,
                "compression.type": "zstd",
            }
        )
        self._stopping = stopping
        self._retry = Retry(settings.kafka_delivery_timeout, stopping)
        self._owned: set[int] = set()
        self._newest: dict[int, datetime] = {}
        self._reported: set[tuple[str, str]] = set()
        self._commit_due = self._show_due = 0.0
        self._refused_since: float | None = None

    def run(self) -> None:
        """Run until `stopping` is set.

        Raises:
            KafkaException: an error that a retry cannot fix. The next owner reads again from the committed offset.
        """
        self._retry(self._producer.init_transactions)
        self._consumer.subscribe(
            [self._logs], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )
        try:
            while not self._stopping.is_set():
                self._step()
            self._commit()
        except BaseException:
            # Closing revokes the partitions, which would commit.
            self._windows.clear()
            self._measured.clear()
            raise
        finally:
            self._consumer.close()
            self._states.close()

    def _step(self) -> None:
        batch = read_batch(self._read(self._fetch.consume(BATCH, LINGER)))
        closed = self._windows.add(batch)
        self._newest.update(batch.newest)
        self._follow_ends()
        ends = {partition for _, partition in self._consumer.ends}
        time_of_stream = stream_time(self._owned, ends, self._newest)
        if time_of_stream is not None:
            closed += self._windows.overdue(time_of_stream)
        self._measured += [self._measure(window) for window in closed]
        now = monotonic()
        if self._measured or now >= self._commit_due:
            self._commit_due = now + COMMIT_SECONDS
            self._commit()
        if now >= self._show_due:
            self._show_due = now + _SHOW_SECONDS
            self._show()

    def _read(self, messages: list[Message]) -> list[Message]:
        """The records to count: without those of partitions that a rebalance took away, and without those that are
        fetched a second time after one."""
        return [
            message
            for message in records(messages, _NAME)
            if (number := message.partition()) in self._owned
            and message.offset() >= self._windows.next_offsets.get(number, 0)
        ]

    def _follow_ends(self) -> None:
        """Take over the offsets that no record led to: the ends of partitions, and the starts of new logs."""
        consumer, next_offsets = self._consumer, self._windows.next_offsets
        for (_, number), end in consumer.ends.items():
            if number in self._owned and end > next_offsets.get(number, 0):
                next_offsets[number] = end
                self._windows.changed.add(number)
        for (_, number), start in consumer.restarted.items():
            next_offsets[number] = start
            self._windows.changed.add(number)
        consumer.restarted.clear()

    def _measure(self, window: ClosedWindow) -> tuple[DriftMeasured, dict[str, int]]:
        """The measurement of a window, and in how many consecutive windows its fields have drifted."""
        settings = self._settings
        measured = measure(window, significance=settings.drift_significance, min_psi=settings.drift_min_psi)
        return measured, self._windows.conclude(window, measured)

    # Publishing

    def _commit(self) -> None:
        """Publish measurements and changed states with their offsets, all or nothing. The next call retries."""
        changed = sorted(self._windows.changed)
        if not changed:
            return
        try:
            self._producer.begin_transaction()
            for measured, _ in self._measured:
                self._publish(measured)
            for partition in changed:
                self._producer.produce(
                    topic_name(self._settings, DRIFT_STATE),
                    msgspec.json.encode(self._windows.state(partition)),
                    key=state_key(partition),
                    partition=self._states.partition_of(partition),
                )
            offsets = [TopicPartition(self._logs, number, self._windows.next_offsets[number]) for number in changed]
            self._retry(self._producer.send_offsets_to_transaction, offsets, self._consumer.consumer_group_metadata())
            self._retry(self._producer.commit_transaction)
        except KafkaException as error:
            self._abort(error)
            return
        self._refused_since = None
        self._windows.changed.clear()
        for measured, consecutive_windows in self._measured:
            self._series.show_window(measured, consecutive_windows, time())
            drifted = [field.field for field in measured.fields if field.drifted]
            if drifted:
                version = measured.model_version
                log_event(_NAME, "drift_detected", model=measured.model, version=version, fields=drifted)
        self._measured.clear()

    def _publish(self, measured: DriftMeasured) -> None:
        self._producer.produce(topic_name(self._settings, MEASUREMENTS), encode(measured), key=measured.model)
        event = drift_detected(measured, datetime.now(UTC))
        if event is not None:
            key = f"drift.detected.v1/{measured.model}"
            self._producer.produce(topic_name(self._settings, MODEL_EVENTS), encode(event), key=key)

    def _abort(self, error: KafkaException) -> None:
        """Abort the transaction. The partitions may have another owner by now: their revocation is about to arrive."""
        if not error.args[0].txn_requires_abort():
            raise error
        log_event(_NAME, "commit_failed", error=error.args[0].str())
        self._retry(self._producer.abort_transaction)
        now = monotonic()
        self._refused_since = self._refused_since or now
        if now - self._refused_since > self._settings.kafka_delivery_timeout:
            raise error

    # Rebalancing is eager: all partitions are revoked before some are assigned.

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # One deadline for all: a member that takes too long is removed from the group.
        until = monotonic() + TIMEOUT
        for found in consumer.committed(partitions, timeout=TIMEOUT) if partitions else []:
            if found.error is not None:
                raise KafkaException(found.error)
            if found.offset >= 0:
                self._restore(found.partition, found.offset, until)
        self._owned = {p.partition for p in partitions}
        starts = {number: self._windows.next_offsets.get(number, OFFSET_BEGINNING) for number in self._owned}
        consumer.assign([TopicPartition(self._logs, number, start) for number, start in starts.items()])
        self._series.restore(self._windows.consecutive(), self._windows.open(), time())
        self._metrics.partitions.set(len(partitions))

    def _restore(self, partition: int, committed: int, until: float) -> None:
        _, end = partition_ends(self._consumer, TopicPartition(self._logs, partition), TIMEOUT)
        if committed > end:
            cause = "the topic holds fewer records than were read"
            log_event(_NAME, "log_restarted", cause=cause, partition=partition)
            self._metrics.consumer.count(self._logs, restarted=1)
            return
        state = self._states.read(partition, committed, until)
        if state is None:
            log_event(_NAME, "state_missing", cause="open windows start again", partition=partition)
            state = State(committed, [], [])
            # Published, so that the next owner finds one.
            self._windows.changed.add(partition)
        self._windows.restore(partition, state)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._commit()
        self._on_lost(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._consumer.forget(partitions)
        self._windows.clear()
        self._measured.clear()
        self._owned.clear()
        self._newest.clear()
        self._metrics.partitions.set(0)

    # Metrics

    def _show(self) -> None:
        for result, rows in self._windows.row_counts.items():
            self._metrics.rows.labels(result).inc(rows)
        self._windows.row_counts.clear()
        missing = self._references.missing
        self._metrics.unprofiled.set(len(missing))
        # Once each, and at most this many: names come from the stream.
        for model, version in [one for one in missing if one not in self._reported][
            : _MAX_REPORTED - len(self._reported)
        ]:
            self._reported.add((model, version))
            cause = "the registry has no reference profile for it: inflight train saves one"
            log_event(_NAME, "no_profile", cause=cause, model=model, version=version)
        self._series.show_open(self._windows.open(), time())


def run(settings: DriftMonitorSettings) -> None:
    """Run the drift monitor until SIGTERM or SIGINT.

    Raises:
        KafkaException: an error that a retry cannot fix.
        OSError: the metrics port is taken.
    """
    registry = CollectorRegistry()
    metrics = DriftMonitorMetrics(registry)

    def work(stopping: threading.Event) -> None:
        run_until_ready(_NAME, lambda: prepare_topics(_NAME, settings, reads=(LOGS,), writes=_WRITES), stopping)
        # Each batch creates thousands of objects: keep the collector from scanning all modules for them.
        gc.freeze()
        if not stopping.is_set():
            DriftMonitor(settings, ProfileCache(settings.registry_dir), metrics, stopping).run()

    run_process(_NAME, settings, work, (registry, settings.drift_monitor_metrics_port))
