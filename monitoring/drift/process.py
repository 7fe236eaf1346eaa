"""`inflight watcher`: compares what the log says with what each version was trained on, window by window.

Measurements, the state of the open windows and the offsets that it covers are one Kafka transaction. So each row counts
in one window, whatever is killed, and who reads committed records (the default of librdkafka) sees each window once.
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
from machine_learning_engineering.kafka.client import Fetch, client_options, consumer_options, create_topics, topic_name
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.registry.profiles import ProfileCache
from monitoring.drift.batch import read_batch
from monitoring.drift.measurement import detected, measure
from monitoring.drift.series import DriftMonitorMetrics, Shown
from monitoring.drift.state import PATIENCE, StateReader, deadline, state_key
from monitoring.drift.stream_time import EndsConsumer, is_end, stream_time
from monitoring.drift.windows import Closed, Limits, State, Windows
from monitoring.runtime.consumer import records
from monitoring.runtime.groups import WATCHER
from monitoring.runtime.process import serve_metrics, until_signalled
from monitoring.runtime.retry import TOPIC_SECONDS, prepare
from monitoring.runtime.retry_call import Insistence
from monitoring.settings import DriftMonitorSettings

BATCH = 4_000
LINGER = 0.5
"""Seconds that records wait for others: counting many at once is cheap, and nobody waits for a window."""
COMMIT_SECONDS = 2.0
TRANSACTION_SECONDS = 10.0
"""So long a transaction may be open. Killed within one, a process holds up readers of its topics until this is over."""
_SHOW_SECONDS = 2.0
_MOST_TOLD = 20


def limits(settings: DriftMonitorSettings) -> Limits:
    """When windows close, by the settings. The rows a second are shared by the partitions."""
    return Limits(
        records=settings.drift_window_rows,
        period=timedelta(seconds=settings.drift_window_seconds),
        least=min(settings.drift_window_min_rows, settings.drift_window_rows),
        per_second=settings.drift_rows_per_second / settings.topic_partitions,
    )


class DriftMonitor:
    """Consumes, counts, and publishes what is ready, all in one thread."""

    def __init__(
        self, settings: DriftMonitorSettings, references: ProfileCache, metrics: DriftMonitorMetrics, stopping: threading.Event
    ) -> None:
        self._settings = settings
        self._references = references
        self._metrics = metrics
        self._shown = Shown(metrics, 2 * settings.drift_window_seconds)
        self._windows = Windows(references, limits(settings))
        self._waiting: list[tuple[DriftMeasured, dict[str, int]]] = []
        self._logs = topic_name(settings, LOGS)
        options = {
            **consumer_options(settings, WATCHER),
            "session.timeout.ms": int(settings.kafka_session_timeout * 1000),
            "queued.max.messages.kbytes": 32 * 1024,
            # Whoever starts it before the topics exist need not wait for the next full refresh.
            "topic.metadata.refresh.interval.ms": 5_000,
        }
        self._consumer = EndsConsumer(options)
        self._fetch = Fetch(self._consumer, settings.kafka_idle_pause)
        self._states = StateReader(settings)
        self._producer = Producer(
            {
                **client_options(settings),
                "transactional.id": f"{topic_name(settings, WATCHER)}-{uuid4().hex}",
                "transaction.timeout.ms": int(TRANSACTION_SECONDS * 1000),
                "delivery.timeout.ms": int(TRANSACTION_SECONDS * 1000),
                "message.max.bytes": MAX_MESSAGE_BYTES,
                "compression.type": "zstd",
            }
        )
        self._stopping = stopping
        self._insist = Insistence(settings.kafka_delivery_timeout, stopping)
        self._owned: set[int] = set()
        self._newest: dict[int, datetime] = {}
        self._told: set[tuple[str, str]] = set()
        self._commit_due = self._show_due = 0.0
        self._refused_since: float | None = None

    def run(self) -> None:
        """Watch until `stopping` is set.

        Raises:
            KafkaException: an error that retrying does not mend. What was not committed is read again by the next one.
        """
        self._insist(self._producer.init_transactions)
        self._consumer.subscribe(
            [self._logs], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )
        try:
            while not self._stopping.is_set():
                self._step()
            self._commit()
        except BaseException:
            # Closing revokes the partitions, and that would commit.
            self._windows.forget()
            self._waiting.clear()
            raise
        finally:
            self._consumer.close()
            self._states.close()

    def _step(self) -> None:
        batch = read_batch(self._read(self._fetch.consume(BATCH, LINGER)))
        closed = self._windows.add(batch)
        self._newest.update(batch.newest)
        time_of_stream = stream_time(self._owned, self._windows.next_offsets, self._consumer.ends, self._newest)
        if time_of_stream is not None:
            closed += self._windows.overdue(time_of_stream)
        self._waiting += [self._measure(window) for window in closed]
        now = monotonic()
        if self._waiting or now >= self._commit_due:
            self._commit_due = now + COMMIT_SECONDS
            self._commit()
        if now >= self._show_due:
            self._show_due = now + _SHOW_SECONDS
            self._show()

    def _read(self, messages: list[Message]) -> list[Message]:
        """The records to count: not those that were fetched before a rebalance took their partition away, nor those
        that are fetched again after it."""
        return [
            message
            for message in records([one for one in messages if not is_end(one)], "watcher")
            if (number := message.partition()) in self._owned
            and message.offset() >= self._windows.next_offsets.get(number, 0)
        ]

    def _measure(self, window: Closed) -> tuple[DriftMeasured, dict[str, int]]:
        """The measurement of a window, and in how many in a row its fields have drifted."""
        settings = self._settings
        measured = measure(window, significance=settings.drift_significance, min_psi=settings.drift_min_psi)
        return measured, self._windows.conclude(window, measured)

    # Publishing

    def _commit(self) -> None:
        """Publish measurements and changed states with their offsets, all or nothing; at the next call again if not."""
        changed = sorted(self._windows.changed)
        if not changed:
            return
        try:
            self._producer.begin_transaction()
            for measured, _ in self._waiting:
                self._publish(measured)
            for partition in changed:
                self._producer.produce(
                    topic_name(self._settings, DRIFT_STATE),
                    msgspec.json.encode(self._windows.state(partition)),
                    key=state_key(partition),
                    partition=self._states.partition_of(partition),
                )
            offsets = [TopicPartition(self._logs, number, self._windows.next_offsets[number]) for number in changed]
            self._insist(self._producer.send_offsets_to_transaction, offsets, self._consumer.consumer_group_metadata())
            self._insist(self._producer.commit_transaction)
        except KafkaException as error:
            self._abort(error)
            return
        self._refused_since = None
        self._windows.changed.clear()
        for measured, in_a_row in self._waiting:
            self._shown.measured(measured, in_a_row, time())
            drifted = [field.field for field in measured.fields if field.drifted]
            if drifted:
                log_event(
                    "watcher", "drift_detected", model=measured.model, version=measured.model_version, fields=drifted
                )
        self._waiting.clear()

    def _publish(self, measured: DriftMeasured) -> None:
        self._producer.produce(topic_name(self._settings, MEASUREMENTS), encode(measured), key=measured.model)
        event = detected(measured, datetime.now(UTC))
        if event is not None:
            key = f"drift.detected.v1/{measured.model}"
            self._producer.produce(topic_name(self._settings, MODEL_EVENTS), encode(event), key=key)

    def _abort(self, error: KafkaException) -> None:
        """Undo the transaction. It may be that the partitions are another's by now: their revocation is on its way."""
        if not error.args[0].txn_requires_abort():
            raise error
        log_event("watcher", "commit_failed", error=error.args[0].str())
        self._insist(self._producer.abort_transaction)
        now = monotonic()
        self._refused_since = self._refused_since or now
        if now - self._refused_since > self._settings.kafka_delivery_timeout:
            raise error

    # Partitions come and go. Rebalancing is eager: all are revoked, and some are assigned afterwards.

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # For all together: who takes too long to answer a rebalance is thrown out of the group.
        until = deadline()
        for found in consumer.committed(partitions, timeout=PATIENCE) if partitions else []:
            if found.error is not None:
                raise KafkaException(found.error)
            if found.offset >= 0:
                self._restore(found.partition, found.offset, until)
        next_offsets = self._windows.next_offsets
        consumer.assign(
            [
                TopicPartition(self._logs, p.partition, next_offsets.get(p.partition, OFFSET_BEGINNING))
                for p in partitions
            ]
        )
        self._owned = {p.partition for p in partitions}
        self._shown.restored(self._windows.streaks(), self._windows.open(), time())
        self._metrics.partitions.set(len(partitions))

    def _restore(self, partition: int, committed: int, until: float) -> None:
        _, end = self._consumer.get_watermark_offsets(TopicPartition(self._logs, partition), timeout=PATIENCE)
        if committed > end:
            log_event(
                "watcher", "log_restarted", cause="the topic has fewer records than were read", partition=partition
            )
            return
        state = self._states.read(partition, committed, until)
        if state is None:
            log_event("watcher", "state_missing", cause="the open windows begin anew", partition=partition)
            state = State(committed, [], [])
            # Published, so that the next owner need not look for one again.
            self._windows.changed.add(partition)
        self._windows.restore(partition, state)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._commit()
        self._on_lost(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Paused for a rest, they would stay so through the revocation, and never be fetched when they come back.
        consumer.resume(partitions)
        self._windows.forget()
        self._waiting.clear()
        self._owned.clear()
        self._newest.clear()
        self._consumer.ends.clear()
        self._metrics.partitions.set(0)

    # Metrics

    def _show(self) -> None:
        for result, rows in self._windows.tally.items():
            self._metrics.rows.labels(result).inc(rows)
        self._windows.tally.clear()
        missing = self._references.missing
        self._metrics.unprofiled.set(len(missing))
        # Once each, and of so many: names come from the stream.
        for model, version in [one for one in missing if one not in self._told][: _MOST_TOLD - len(self._told)]:
            self._told.add((model, version))
            why = "the registry in INFLIGHT_HOME has no reference profile of it: inflight train saves one"
            log_event("watcher", "no_profile", cause=why, model=model, version=version)
        self._shown.open(self._windows.open(), time())
        lag = 0
        for number, offset in self._windows.next_offsets.items():
            # Negative: not known yet.
            _, high = self._consumer.get_watermark_offsets(TopicPartition(self._logs, number), cached=True)
            lag += max(0, high - offset)
        self._metrics.lag.set(lag)


def run(settings: DriftMonitorSettings) -> None:
    """Run the watcher until SIGTERM or SIGINT.

    Raises:
        KafkaException: Kafka refuses for good.
        OSError: the metrics port is taken.
    """
    registry = CollectorRegistry()
    metrics = DriftMonitorMetrics(registry)
    with (
        until_signalled() as stopping,
        serve_metrics(registry, settings.metrics_host, settings.drift_monitor_metrics_port) as url,
    ):
        log_event("watcher", "started", metrics=url, kafka=settings.kafka_bootstrap_servers)
        prepare("watcher", lambda: create_topics(settings, TOPIC_SECONDS), stopping)
        # Each batch makes thousands of objects: the collector need not look through all modules for them.
        gc.freeze()
        if not stopping.is_set():
            DriftMonitor(settings, ProfileCache(settings.registry_dir), metrics, stopping).run()
        log_event("watcher", "stopped")
